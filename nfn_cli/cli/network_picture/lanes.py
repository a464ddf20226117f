"""cli/network_picture/lanes.py: where values that skip rows run beside them. Knows numbers of rows only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lane:
    """A value that rows other than the next one read: beside rows `start` … `max(readers)`, in place `place`."""

    place: int
    start: int
    readers: tuple[int, ...]


def lanes(reads: Sequence[Sequence[int]]) -> tuple[Lane, ...]:
    """One lane for each row that is read later than by the next row; two that are alive at once have different places.

    Args:
        reads: for each row the numbers of rows that it reads.
    """
    readers: dict[int, list[int]] = {}
    for row, sources in enumerate(reads):
        for source in sources:
            if source != row - 1:
                readers.setdefault(source, []).append(row)
    free_after: list[int] = []
    found = []
    for source, later in sorted(readers.items()):
        place = next((p for p, end in enumerate(free_after) if end <= source), len(free_after))
        if place == len(free_after):
            free_after.append(0)
        free_after[place] = max(later)
        found.append(Lane(place, source, tuple(later)))
    return tuple(found)
