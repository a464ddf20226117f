"""match/diff_layout.py: tensors of a narrower network laid into those of a wider one, unit by unit; the rest is empty.

What units a tensor's slots belong to is asked of both networks' symmetries; nothing is guessed from shapes. A unit of which one
network has nothing is there a dead one: all that feeds and reads it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.symmetry.axis import IntArray, mix
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

Array = np.ndarray[Any, np.dtype[Any]]


def places_of_units(narrow: Symmetry, wide: Symmetry) -> IntArray:
    """(units of the narrow network,) the unit of the wide one that each becomes: set by set, in order.

    Raises:
        Refused: the sets do not correspond, or units of one may not change places (code "different-architectures").
    """
    if len(narrow.unit_sets) != len(wide.unit_sets):
        raise _refusal(f"{len(narrow.unit_sets)} sets of units here, {len(wide.unit_sets)} where both have room")
    pairs = zip(narrow.unit_sets, wide.unit_sets, strict=True)
    return np.concatenate([np.zeros(0, np.int64), *(_places(small, large) for small, large in pairs)])


def _places(small: UnitSet, large: UnitSet) -> IntArray:
    numbers = np.arange(small.size)
    alike = small.permutable == large.permutable and dict(small.families) == dict(large.families)
    if alike and small.size == large.size and small.block_size == large.block_size:
        return numbers + large.start
    room = small.size <= large.size and small.block_size <= large.block_size
    if not (alike and room and large.permutable):
        raise _refusal(f"the widths of {small.name!r} differ, and its units cannot be matched freely")
    if not (small.block_size or large.block_size):
        return numbers + large.start
    runs = [unit_set.size // max(1, unit_set.block_size) for unit_set in (small, large)]
    if not (small.block_size and large.block_size) or runs[0] != runs[1]:
        raise _refusal(f"{small.name!r} has units that only move in groups, of another number in each network")
    return numbers // small.block_size * large.block_size + numbers % small.block_size + large.start


def laid_out(
    array: Array,
    name: str,
    narrow: Sequence[Action],
    wide: Sequence[Action],
    shape: tuple[int, ...],
    places: IntArray,
) -> FloatArray:
    """The array in float64 in the wide network's shape.

    Args:
        narrow, wide: what acts on the tensor in each network.
        places: see `places_of_units`.

    Raises:
        Refused: an axis differs that holds no units, or whose units do not correspond (code "different-architectures").
    """
    if [(a.dim, a.groups) for a in narrow] != [(a.dim, a.groups) for a in wide]:
        raise _refusal(f"other units act on {name}")
    index: list[IntArray] = [np.arange(length) for length in array.shape]
    columns: IntArray | None = None
    for mine, other in zip(narrow, wide, strict=True):
        slots = _slots(mine, other, places, name)
        if mine.groups > 1:
            columns = _columns(slots, mine, other, name)
        else:
            index[mine.dim] = slots
    held = {a.dim for a in narrow}
    for dim, (here, there) in enumerate(zip(array.shape, shape, strict=True)):
        if here != there and dim not in held:
            raise _refusal(f"axis {dim} of {name} differs in length, and it holds no units")
    out = np.full(shape, 1.0 if any(a.exponent == 2 for a in wide) else 0.0)
    if columns is None:
        out[np.ix_(*index)] = array
    else:
        group = np.arange(array.shape[0]) // (array.shape[0] // len(columns))
        kernel = np.ix_(*index[2:])
        rank = array.ndim - 2
        rows = index[0].reshape(-1, 1, *(1,) * rank)
        out[(rows, columns[group].reshape(*array.shape[:2], *(1,) * rank), *(k[None, None] for k in kernel))] = array
    return out


def _slots(narrow: Action, wide: Action, places: IntArray, name: str) -> IntArray:
    """(slots of the narrow axis,) the slot of the wide one that holds the same unit under the same label."""
    mine, other = _codes(np.append(places, -1)[narrow.unit], narrow), _codes(wide.unit, wide)
    order = np.argsort(other, kind="stable")
    found: IntArray = order[np.minimum(np.searchsorted(other, mine, sorter=order), len(order) - 1)]
    if not np.array_equal(other[found], mine) or (wide.unit < 0).sum() != (narrow.unit < 0).sum():
        raise _refusal(f"the units on axis {narrow.dim} of {name} do not correspond")
    return found


def _codes(unit: IntArray, action: Action) -> Any:
    """A number for each slot: its unit, its label, and the how manieth it is of those; slots without units in order."""
    _, back, slots = np.unique(unit, return_inverse=True, return_counts=True)
    # a unit's only slot needs no label; where an axis is cut, labels say how long the parts are
    code = mix(unit, np.where((unit < 0) | (slots[back] == 1), np.uint64(0), action.label))
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    rank = np.empty(len(code), np.int64)
    rank[order] = np.arange(len(code)) - np.repeat(first, np.diff(np.append(first, len(code))))
    return mix(code, rank)


def _columns(slots: IntArray, narrow: Action, wide: Action, name: str) -> IntArray:
    """(groups, columns) where each column of a group goes; a group stays one."""
    width = len(wide.unit) // wide.groups
    found = slots.reshape(narrow.groups, -1)
    if (found // width != np.arange(narrow.groups)[:, None]).any():
        raise _refusal(f"the groups of {name} do not correspond")
    return found % width


def _refusal(what: str) -> Refused:
    return Refused(f"not the same architecture up to widths: {what}", code="different-architectures")
