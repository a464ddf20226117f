"""checkpoint/shared_memory.py: tensors that lie in each other's memory without being one tensor. Knows arrays, no file.

A program that made two tensors of one memory (a transposed view, a part of a bank) reads them as one. Written apart they are two,
and the one that is read last wins: what moved one of them would change the function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_MOST_WORK = 100_000  # of NumPy's search for an entry that two strided arrays have in common


def check_apart(tensors: Mapping[str, Array], aliases: Mapping[str, str], changed: Collection[str]) -> None:
    """Refuse to write changed tensors that share memory with others.

    Args:
        tensors: as they were read.
        aliases: name -> the name of the same tensor, which may share all of its memory.

    Raises:
        Refused: with code "shared-memory".
    """
    own = {name: tensors[name] for name in tensors if name not in aliases}
    for one, other in _neighbours(own, changed):
        if _meet(tensors[one], tensors[other]):
            raise Refused(
                f"the tensor shares memory with {printable(other)}, and one of them would move",
                where=printable(one),
                fix="save the network with tensors of their own",
                code="shared-memory",
            )


def _neighbours(tensors: Mapping[str, Array], changed: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs whose stretches of memory meet, one of them changed."""
    wanted = frozenset(changed)
    moved: list[tuple[int, str]] = []
    still: list[tuple[int, str]] = []
    for start, stop, name in sorted((*_stretch(array), name) for name, array in tensors.items() if array.size):
        moved = [(end, other) for end, other in moved if end > start]
        yield from ((other, name) for _, other in moved)
        if name in wanted:
            still = [(end, other) for end, other in still if end > start]
            yield from ((other, name) for _, other in still)
            moved.append((stop, name))
        else:
            still.append((stop, name))


def _stretch(array: Array) -> tuple[int, int]:
    """First byte and the one behind the last."""
    start = int(array.__array_interface__["data"][0])
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    return start + sum(r for r in reach if r < 0), start + array.itemsize + sum(r for r in reach if r > 0)


def _meet(one: Array, other: Array) -> bool:
    try:
        return bool(np.shares_memory(one, other, max_work=_MOST_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
