"""canonical/projection.py: one number per unit, from a tensor contracted with numbers of the units on its other axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from nfn_cli.canonical.coupling import Tensors
from nfn_cli.symmetry.action import multiplier, transformed
from nfn_cli.symmetry.axis import HashArray, mix
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Action

Array = np.ndarray[Any, np.dtype[Any]]
_SLICE_ENTRIES = 1 << 18


def fixed_numbers(hashes: HashArray, salt: int = 0) -> FloatArray:
    """Reproducible numbers in ±[0.5, 1.5], the same for equal hashes and salts on every machine."""
    bits = mix(hashes, 7 + salt)
    size = 0.5 + (bits >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return np.where(bits & np.uint64(1), size, -size)


@dataclass
class Projector:
    """Contracts tensors, after the element's scales and signs. What does not change between contractions is kept.

    Attributes:
        element: its scales must not change any more; after a change of its signs call `signs_changed`, after one of the
            parities of its phase counts `parities_changed`.
    """

    tensors: Tensors
    actions: Mapping[str, tuple[Action, ...]]
    element: FlatElement
    _kept: dict[Any, FloatArray] = field(default_factory=dict)
    _unsigned: FlatElement = field(init=False)
    _sign: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self._unsigned = replace(self.element, sign=np.ones_like(self.element.sign))
        self.signs_changed()

    def signs_changed(self) -> None:
        self._sign = np.append(self.element.sign, 1.0)

    def parities_changed(self) -> None:
        self._kept.clear()

    def _once(self, key: Any, make: Callable[[], FloatArray]) -> FloatArray:
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    def label_sizes(self, action: Action, salt: int) -> FloatArray:
        """(slots,) a positive number for each label."""
        return self._once(("sizes", id(action), salt), lambda: np.abs(fixed_numbers(action.label, salt)))

    def _label_numbers(self, action: Action, salt: int) -> FloatArray:
        """(slots,) by label where a slot belongs to a unit, by position where it is fixed."""

        def make() -> FloatArray:
            position = mix(np.arange(len(action.unit)), 3)
            return np.where(action.unit >= 0, self.label_sizes(action, salt), fixed_numbers(position, salt))

        return self._once(("labels", id(action), salt), make)

    def _positions(self, length: int, dim: int, salt: int) -> FloatArray:
        return self._once(("positions", length, dim, salt), lambda: fixed_numbers(mix(np.arange(length), dim), salt))

    def _factor(self, action: Action) -> FloatArray | None:
        def unsigned() -> FloatArray:
            factor = multiplier(action, self._unsigned)
            return np.ones(0) if factor is None else factor

        factor = self._once(("factor", id(action)), unsigned)
        if action.signed and (action.sign >= 0).any():
            sign: FloatArray = self._sign[action.sign].prod(axis=0)
            return sign * factor if len(factor) else sign
        return factor if len(factor) else None

    def _side(self, actions: list[Action], keys: FloatArray, length: int, dim: int, salt: int) -> FloatArray:
        """What one axis is contracted with: its units' keys times what the element does to the axis."""
        if not actions:
            return self._positions(length, dim, salt)
        units = actions[0].unit
        vector = self._label_numbers(actions[0], salt) * np.where(units >= 0, np.append(keys, 1.0)[units], 1.0)
        return self._with_factors(vector, actions)

    def _with_factors(self, vector: FloatArray, actions: list[Action]) -> FloatArray:
        for action in actions:
            factor = self._factor(action)
            if factor is not None:
                vector = vector * factor
        return vector

    def projected(self, name: str, dim: int, keys: FloatArray, salt: int = 0) -> FloatArray:
        """(length of axis `dim`,) the tensor contracted over all its other axes."""
        array, actions = self.tensors[name], self.actions[name]
        along = [action for action in actions if action.dim == dim]
        grouped = next((action for action in actions if action.groups > 1), None)
        if grouped is not None:
            return self._with_factors(self._grouped(array, grouped, dim, keys, salt), along)
        if array.size == array.shape[dim]:
            return self._vector(name)
        sides = {
            other: self._side([a for a in actions if a.dim == other], keys, array.shape[other], other, salt)
            for other in range(array.ndim)
            if other != dim
        }
        return self._with_factors(_contracted(array, dim, sides), along)

    def _vector(self, name: str) -> FloatArray:
        actions = self.actions[name]
        if any(action.phase for action in actions):
            wide = self.tensors[name].astype(np.float64)
            return np.asarray(transformed(wide, actions, self.element), np.float64).reshape(-1)

        def unsigned() -> FloatArray:
            wide = self.tensors[name].astype(np.float64)
            return np.asarray(transformed(wide, actions, self._unsigned), np.float64).reshape(-1)

        vector = self._once(("vector", name), unsigned)
        for action in actions:  # an axis of length 1 may carry a sign too
            if action.signed and (action.sign >= 0).any():
                vector = vector * self._sign[action.sign].prod(axis=0)
        return vector

    def _grouped(self, array: Array, grouped: Action, dim: int, keys: FloatArray, salt: int) -> FloatArray:
        """Axis 0 and the columns of each group of rows are contracted with each other; the kernel with fixed numbers."""
        kernel = np.ones(1)
        for axis in range(2, array.ndim):
            kernel = np.multiply.outer(kernel, self._positions(array.shape[axis], axis, salt)).reshape(-1)
        matrix = array.reshape(*array.shape[:2], -1).astype(np.float64) @ kernel
        matrix = matrix.reshape(grouped.groups, -1, array.shape[1])  # (groups, rows, columns)
        if dim == 0:
            columns = self._side([grouped], keys, len(grouped.unit), 1, salt)
            return np.asarray(np.einsum("grc,gc->gr", matrix, columns.reshape(grouped.groups, -1)).reshape(-1))
        on_rows = [action for action in self.actions[grouped.tensor] if action.dim == 0]
        rows = self._side(on_rows, keys, array.shape[0], 0, salt)
        return np.asarray(np.einsum("grc,gr->gc", matrix, rows.reshape(grouped.groups, -1)).reshape(-1))


def _contracted(array: Array, dim: int, sides: Mapping[int, FloatArray]) -> FloatArray:
    shape = array.shape
    width = prod(shape[1:])
    rows = max(1, _SLICE_ENTRIES // max(1, width))
    rest = [axis for axis in range(1, array.ndim) if axis != dim]
    if dim == 0:
        flat = np.ones(1)
        for axis in rest:
            flat = np.multiply.outer(flat, sides[axis])
        flat = flat.reshape(-1)
        out = np.empty(shape[0])
        for start in range(0, shape[0], rows):
            part = array[start : start + rows]
            out[start : start + rows] = part.reshape(len(part), width).astype(np.float64) @ flat
        return out
    total = np.zeros(width)
    for start in range(0, shape[0], rows):
        part = array[start : start + rows]
        total += sides[0][start : start + rows] @ part.reshape(len(part), width).astype(np.float64)
    left = total.reshape(shape[1:])
    for axis in sorted(rest, reverse=True):
        left = np.tensordot(left, sides[axis], axes=(axis - 1, 0))
    return np.asarray(left)
