"""symmetry/action.py: apply a group element to tensors, one tensor at a time, in the dtype they have. No file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.symmetry.axis import IntArray, mix
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

Array = np.ndarray[Any, np.dtype[Any]]

# Work on slices of this many entries: the float64 copies of a slice stay in cache and far below the file's size.
_SLICE_ENTRIES = 1 << 18


class TransformedTensors(Mapping[str, Array]):
    """The tensors after a group element; each is computed when it is asked for, none is kept.

    Args:
        dtype: of the results; None keeps each tensor's own.
    """

    def __init__(
        self,
        tensors: Mapping[str, Array],
        aliases: Mapping[str, str],
        symmetry: Symmetry,
        element: FlatElement,
        dtype: Any = None,
    ) -> None:
        self._plans: dict[str, Plan | None] = {}
        self._tensors, self._aliases, self._symmetry, self._element, self._dtype = (
            tensors,
            aliases,
            symmetry,
            element,
            dtype,
        )

    def __getitem__(self, name: str) -> Array:
        return self._kept(name) if self._plan(name) is None else self.rows(name, 0, self._tensors[name].shape[0])

    def rows(self, name: str, start: int, stop: int) -> Array:
        """`self[name][start:stop]`, without computing the rest: large tensors need not stand in memory."""
        plan = self._plan(name)
        if plan is None:
            return self._kept(name)[start:stop]
        array = self._tensors[name]
        return plan.rows(array, start, stop, self._dtype or array.dtype)

    def _kept(self, name: str) -> Array:
        array = self._tensors[name]
        converted = self._dtype is not None and self._aliases.get(name, name) in self._symmetry.actions
        return np.asarray(array).astype(self._dtype) if converted else array

    def _plan(self, name: str) -> Plan | None:
        if name not in self._plans:
            actions = self._symmetry.actions.get(self._aliases.get(name, name), ())
            self._plans[name] = plan_of(actions, self._element, self._tensors[name].shape)
        return self._plans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def multiplier(action: Action, element: FlatElement) -> FloatArray | None:
    """(length of the axis,) factors of one action; None when all are 1."""
    factor = np.ones(len(action.unit))
    if action.exponent:
        factor = (np.append(element.scale, 1.0)[action.scale] ** (action.power * action.exponent)).prod(axis=0)
    if action.signed:
        factor = factor * np.append(element.sign, 1.0)[action.sign].prod(axis=0)
        odd = np.append(element.shift, 0)[action.shift] % 2 != 0
        factor = np.where(odd, -factor, factor)
    return None if (factor == 1.0).all() else factor


def source(action: Action, element: FlatElement) -> IntArray | None:
    """(length of the axis,) where each slot's content comes from; None when nothing moves."""
    units = np.append(element.permutation, -1)[action.unit]
    if np.array_equal(units, action.unit):
        return None
    first = int(action.unit[0])
    if first >= 0 and np.array_equal(action.unit, np.arange(first, first + len(units))):
        moved: IntArray = units - first
        if moved.min() >= 0 and moved.max() < len(units):
            return moved  # a whole unit set, one slot for each: most axes are
    # units that stay may have several slots under one label, which this could not tell apart: they are left out
    slots = np.flatnonzero(units != action.unit)
    code = mix(action.unit[slots], action.label[slots])
    order = np.argsort(code)
    wanted = mix(units[slots], action.label[slots])
    out = np.arange(len(units), dtype=np.int64)
    out[slots] = slots[order[np.searchsorted(code, wanted, sorter=order)]]
    return out


@dataclass(frozen=True)
class GroupedPlan:
    """What happens along axis 1 of a grouped convolution's weight, where each group of rows has units of its own.

    Attributes:
        columns: (groups, length of axis 1) where each column comes from; None when none moves.
        factors: (groups, length of axis 1); None when all are 1.
        rows: rows in a group.
    """

    columns: IntArray | None
    factors: FloatArray | None
    rows: int

    def apply(self, part: Array, start: int) -> Array:
        """`part` holds rows start … of the result, already taken from where they come from."""
        group = np.arange(start, start + part.shape[0]) // self.rows
        tail = (1,) * (part.ndim - 2)
        if self.columns is not None:
            columns = self.columns[group]
            part = np.take_along_axis(part, columns.reshape(*columns.shape, *tail), axis=1)
        if self.factors is not None:
            factors = self.factors[group]
            part = part.astype(np.float64) * factors.reshape(*factors.shape, *tail)
        return part


def _grouped_plan(action: Action, element: FlatElement, rows: int) -> GroupedPlan | None:
    moved, factor = source(action, element), multiplier(action, element)
    if moved is None and factor is None:
        return None
    width = len(action.unit) // action.groups
    columns = None if moved is None else (moved % width).reshape(action.groups, width)
    return GroupedPlan(columns, None if factor is None else factor.reshape(action.groups, width), rows // action.groups)


@dataclass(frozen=True)
class Plan:
    """What an element does to one tensor: where each slice along an axis comes from, factors, and what is added."""

    moves: Mapping[int, IntArray]
    factors: Mapping[int, FloatArray]
    offset: float
    added: Mapping[int, FloatArray]
    grouped: GroupedPlan | None = None

    def rows(self, array: Array, start: int, stop: int, dtype: Any) -> Array:
        """Rows start … stop of the result, computed in slices that stay in cache, in float64 where numbers change."""
        stop = min(stop, array.shape[0])
        out = np.empty((max(0, stop - start), *array.shape[1:]), dtype)
        step = max(1, _SLICE_ENTRIES // max(1, array[:1].size))
        for low in range(start, stop, step):
            high = min(low + step, stop)
            part: Array = array[self.moves[0][low:high]] if 0 in self.moves else array[low:high]
            for dim, moved in self.moves.items():
                if dim:
                    part = part.take(moved, axis=dim)
            if self.grouped is not None:
                part = self.grouped.apply(part, low)
            if self.factors or self.added:
                part = part.astype(np.float64)
                if self.offset:
                    part += self.offset
                for dim, factor in self.factors.items():
                    part *= _along(factor[low:high] if dim == 0 else factor, dim, array.ndim)
                if self.offset:
                    part -= self.offset
                for dim, amount in self.added.items():
                    part += _along(amount[low:high] if dim == 0 else amount, dim, array.ndim)
            with np.errstate(over="ignore"):
                out[low - start : high - start] = part
        return out


def plan_of(actions: tuple[Action, ...], element: FlatElement, shape: tuple[int, ...]) -> Plan | None:
    """None when the element leaves the tensor as it is."""
    moves: dict[int, IntArray] = {}
    factors: dict[int, FloatArray] = {}
    added: dict[int, FloatArray] = {}
    offset = 0.0
    grouped: GroupedPlan | None = None
    for action in actions:
        if action.groups > 1:
            grouped = _grouped_plan(action, element, shape[0])
            continue
        moved = source(action, element)
        if moved is not None:
            moves[action.dim] = moved
        factor = multiplier(action, element)
        if factor is not None:
            factors[action.dim] = factors.get(action.dim, 1.0) * factor
            offset = offset or action.offset
        if action.phase:
            amount: FloatArray = np.append(element.shift, 0)[action.shift] * np.float64(action.phase)
            if amount.any():
                added[action.dim] = amount
    factors = {dim: factor for dim, factor in factors.items() if not (factor == 1.0).all()}
    if not (moves or factors or added or grouped):
        return None
    return Plan(moves, factors, offset if factors else 0.0, added, grouped)


def transformed(array: Array, actions: tuple[Action, ...], element: FlatElement) -> Array:
    """One tensor after the element; the same array when nothing changes."""
    plan = plan_of(actions, element, array.shape)
    return array if plan is None else plan.rows(array, 0, array.shape[0], array.dtype)


def unfolded(array: Array, dim: int, groups: int) -> tuple[Array, int]:
    """A weight seen so that `dim` holds all units: for a grouped axis 1 (I, rows of a group, kernel…) with `dim` 0."""
    if groups == 1:
        return array, dim
    split = array.reshape(groups, -1, *array.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(-1, split.shape[1], *array.shape[2:]), 0


def _along(vector: FloatArray, axis: int, rank: int) -> FloatArray:
    return vector.reshape([-1 if position == axis else 1 for position in range(rank)])
