"""symmetry/extras/shift.py: a constant added along one axis of a value, as a linear form in variables. No op, no tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.symmetry.extras.extra import FloatArray

# (number of a variable, first entry of it that is meant) -> coefficient
Terms = Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class Segment:
    """`size` channels in a row, each repeated `repeat` times: channel i is shifted by Σ coefficient · variable[start + i]."""

    size: int
    terms: Terms
    repeat: int = 1

    @property
    def slots(self) -> int:
        return self.size * self.repeat

    def part(self, start: int, stop: int) -> Segment | None:
        """Slots start … stop; None where a channel's repetitions would be torn apart."""
        if not self.terms:
            return Segment(stop - start, {})
        if start % self.repeat or stop % self.repeat:
            return None
        first = start // self.repeat
        terms = {(variable, at + first): c for (variable, at), c in self.terms.items()}
        return Segment((stop - start) // self.repeat, terms, self.repeat)


@dataclass(frozen=True)
class Shift:
    """The constant along `axis`: the segments, one after another, fill its length."""

    axis: int
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return sum(segment.slots for segment in self.segments)

    @property
    def terms(self) -> list[tuple[int, int]]:
        return [key for segment in self.segments for key in segment.terms]

    def along(self, axis: int) -> Shift:
        return replace(self, axis=axis)

    def times(self, factor: float) -> Shift:
        return replace(
            self,
            segments=tuple(replace(s, terms={key: factor * c for key, c in s.terms.items()}) for s in self.segments),
        )

    def part(self, start: int, stop: int) -> Shift | None:
        """Slots start … stop of the axis."""
        out, place = [], 0
        for segment in self.segments:
            low, high = max(start, place), min(stop, place + segment.slots)
            if low < high:
                piece = segment.part(low - place, high - place)
                if piece is None:
                    return None
                out.append(piece)
            place += segment.slots
        return Shift(self.axis, tuple(out))

    def values(self, variables: Mapping[int, FloatArray]) -> FloatArray:
        """(length of the axis,) the constant for given variables; those not given are 0."""
        out = []
        for segment in self.segments:
            total = np.zeros(segment.size)
            for (variable, start), c in segment.terms.items():
                if variable in variables:
                    total += c * variables[variable][start : start + segment.size]
            out.append(np.repeat(total, segment.repeat))
        return np.concatenate(out) if out else np.zeros(0)


def one(variable: int, size: int, axis: int) -> Shift:
    return Shift(axis, (Segment(size, {(variable, 0): 1.0}),))


def summed(shifts: Sequence[Shift]) -> Shift | None:
    """The sum of shifts along one axis; None where their layouts do not agree."""
    total = shifts[0]
    for shift in shifts[1:]:
        if shift.axis != total.axis or len(shift) != len(total):
            return None
        segments = _added(list(total.segments), list(shift.segments))
        if segments is None:
            return None
        total = Shift(total.axis, tuple(segments))
    return total


def _added(left: list[Segment], right: list[Segment]) -> list[Segment] | None:
    out = []
    while left and right:
        a, b = left.pop(0), right.pop(0)
        slots = min(a.slots, b.slots)
        for rest, segment in ((left, a), (right, b)):
            if segment.slots > slots:
                tail = segment.part(slots, segment.slots)
                if tail is None:
                    return None
                rest.insert(0, tail)
        head_a, head_b = a.part(0, slots), b.part(0, slots)
        if head_a is None or head_b is None:
            return None
        if head_a.terms and head_b.terms and head_a.repeat != head_b.repeat:
            return None
        terms = dict(head_a.terms)
        for key, c in head_b.terms.items():
            terms[key] = terms.get(key, 0.0) + c
        kept = head_a if head_a.terms else head_b
        out.append(replace(kept, terms={key: c for key, c in terms.items() if c}))
    return out
