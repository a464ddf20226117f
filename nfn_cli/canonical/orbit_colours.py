"""canonical/orbit_colours.py: 64-bit sums that tell canonical tensors apart without an order of units. Knows actions; no file.

Sorting units breaks where float noise swaps two keys. Colour refinement does not: a unit's colour is a hash of the multiset
of its rounded weights together with the colours of the units they come from, from the fixed axes inward; a tensor's sum is
a hash of the multiset of its rounded entries with the colours on all of its axes. Multisets are added up modulo 2^64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nfn_cli.symmetry.action import plan_of
from nfn_cli.symmetry.axis import HashArray, mix
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

Array = np.ndarray[Any, np.dtype[Any]]
_SLICE_ENTRIES = 1 << 18
# Where cells begin: no value that networks are full of (0, ±1 of the mean size and its fractions) lies near a border.
_BORDER = 0.382


class _Widened:
    """An array whose slices come out in float64; the whole of it is never copied."""

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.ndim, self.dtype = array, array.shape, array.ndim, np.dtype(np.float64)

    def __getitem__(self, rows: slice) -> FloatArray:
        return np.asarray(self.array[rows]).astype(np.float64)


class CanonicalRows:
    """The tensors after an element that permutes nothing, in float64, some rows at a time."""

    def __init__(self, tensors: Mapping[str, Array], symmetry: Symmetry, element: FlatElement) -> None:
        self._tensors, self._symmetry, self._element = tensors, symmetry, element

    def shape(self, name: str) -> tuple[int, ...]:
        """A scalar is one row of one entry."""
        return self._tensors[name].shape or (1,)

    def parts(self, name: str) -> Iterator[tuple[int, FloatArray]]:
        """(first row, (rows, entries of a row)) one after another."""
        array = self._tensors[name].reshape(self.shape(name))
        plan = plan_of(self._symmetry.actions.get(name, ()), self._element, array.shape)
        wide: Any = _Widened(array)
        step = max(1, _SLICE_ENTRIES // max(1, array[:1].size))
        for start in range(0, array.shape[0], step):
            part = wide[start : start + step] if plan is None else plan.rows(wide, start, start + step, wide.dtype)
            yield start, part.reshape(len(part), -1)

    def mean_square(self, name: str) -> float:
        total = sum(float(np.einsum("rc,rc->", part, part)) for _, part in self.parts(name))
        return total / max(1, int(np.prod(self.shape(name))))


class OrbitColours:
    """Colours of all units, and the sum of each tensor.

    Args:
        rows: tensors in the scale and sign of the canonical form.
        step: tensor name -> width of the cells its entries are rounded to.
    """

    def __init__(self, symmetry: Symmetry, rows: CanonicalRows, step: Mapping[str, float]) -> None:
        self._symmetry, self._rows, self._step = symmetry, rows, step
        self._colour, self._known = np.zeros(symmetry.units, np.uint64), np.zeros(symmetry.units, bool)
        self._sums: dict[tuple[str, int], HashArray] = {}
        self._labelled: dict[tuple[str, int], HashArray] = {}
        for unit_set in symmetry.unit_sets:
            self._set_colours(unit_set)

    def tensor_sum(self, name: str) -> int:
        """The same for every order of the units."""
        return int(mix(self._along(name, 0), self._slots(name, 0)).sum(dtype=np.uint64))

    def _set_colours(self, unit_set: UnitSet) -> None:
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        total = np.zeros(self._symmetry.units, np.uint64)
        for name, actions in self._symmetry.actions.items():
            for dim in dict.fromkeys(action.dim for action in actions):
                action = next(a for a in actions if a.dim == dim)
                here = (action.unit >= unit_set.start) & (action.unit < span.stop)
                # a grouped axis only hands colours on: its units were made, and coloured, by another tensor
                if action.groups > 1 or not here.any() or not self._others_known(name, dim):
                    continue
                np.add.at(total, action.unit[here], self._told_apart(name, action)[here])
        place = 0 if unit_set.permutable else np.arange(1, unit_set.size + 1)
        self._colour[span] = mix(total[span], place)
        self._known[span] = True

    def _told_apart(self, name: str, action: Action) -> HashArray:
        """`_along` of the action's axis, different for the slots of one unit and for axes of different lengths."""
        key = (name, action.dim)
        if key not in self._labelled:
            self._labelled[key] = mix(self._along(*key), action.label, *self._rows.shape(name), action.dim)
        return self._labelled[key]

    def _others_known(self, name: str, dim: int) -> bool:
        others = [action.unit for action in self._symmetry.actions[name] if action.dim != dim]
        return all(bool(self._known[unit[unit >= 0]].all()) for unit in others)

    def _along(self, name: str, dim: int) -> HashArray:
        """(length of axis `dim`,) for each slot the multiset of its entries with the colours on the other axes."""
        if (name, dim) not in self._sums:
            self._sums[name, dim] = self._added(name, dim)
        return self._sums[name, dim]

    def _added(self, name: str, dim: int) -> HashArray:
        shape = self._rows.shape(name)
        behind = self._behind(name, dim)  # (1 or rows of axis 0, entries of a row)
        front = self._slots(name, 0)
        out = np.zeros(shape[0] if dim == 0 else behind.shape[1], np.uint64)
        for start, part in self._rows.parts(name):
            stop = start + len(part)
            cells = np.floor(part / self._step[name] + _BORDER).astype(np.int64).astype(np.uint64)
            cells += behind if len(behind) == 1 else behind[start:stop]
            if dim == 0:
                out[start:stop] = mix(cells).sum(axis=1, dtype=np.uint64)
            else:
                out += mix(cells, front[start:stop, None]).sum(axis=0, dtype=np.uint64)
        if dim == 0:
            return out
        axes = tuple(axis - 1 for axis in range(1, len(shape)) if axis != dim)
        return np.asarray(out.reshape(shape[1:]).sum(axis=axes, dtype=np.uint64))

    def _behind(self, name: str, dim: int) -> HashArray:
        """Colours of axes 1, 2, … but `dim`, in one: the same for all rows, or one line a row where axis 1 is grouped."""
        shape = self._rows.shape(name)
        grouped = next((a for a in self._symmetry.actions.get(name, ()) if a.groups > 1), None)
        colour = np.zeros((1, 1), np.uint64)
        for axis in range(1, len(shape)):
            if axis == dim:
                slots = np.zeros((1, shape[axis]), np.uint64)
            elif axis == 1 and grouped is not None:
                lines = self._of_units(grouped).reshape(grouped.groups, shape[1])
                slots = lines[np.arange(shape[0]) // (shape[0] // grouped.groups)]
            else:
                slots = self._slots(name, axis)[None, :]
            colour = mix(colour[:, :, None], slots[:, None, :])
            colour = colour.reshape(colour.shape[0], -1)
        return colour

    def _slots(self, name: str, axis: int) -> HashArray:
        actions = [a for a in self._symmetry.actions.get(name, ()) if a.dim == axis]
        if not actions:
            return mix(np.arange(self._rows.shape(name)[axis]), 3)
        return self._of_units(actions[0])

    def _of_units(self, action: Action) -> HashArray:
        position = mix(np.arange(len(action.unit)), 3)
        return np.where(
            action.unit >= 0, mix(np.append(self._colour, np.uint64(0))[action.unit], action.label), position
        )
