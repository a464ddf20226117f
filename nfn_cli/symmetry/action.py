"""symmetry/action.py: apply a group element to tensors, one tensor at a time, in the dtype they have. No file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nfn_cli.symmetry.axis import IntArray, mix
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

Array = np.ndarray[Any, np.dtype[Any]]

# Work on slices of this many entries: the float64 copies of a slice stay in cache and far below the file's size.
_SLICE_ENTRIES = 1 << 18

_LARGE = 8 << 20  # bytes from which a result's memory is used again
# what getrefcount counts while nothing but the attribute and its own argument refer to the buffer
_OWN_REFERENCES = 2


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
        self._buffer: Array = np.empty(0, np.uint8)
        self._tensors, self._aliases, self._symmetry, self._element, self._dtype = (
            tensors,
            aliases,
            symmetry,
            element,
            dtype,
        )

    def __getitem__(self, name: str) -> Array:
        array = self._tensors[name]
        actions = self._symmetry.actions.get(self._aliases.get(name, name), ())
        if self._dtype is not None and actions:
            array = np.asarray(array).astype(self._dtype)
        return transformed(array, actions, self._element, self._space)

    def _space(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Memory for a result: the last large result's, if nobody holds it any more (fresh pages cost more than the work)."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size < _LARGE:
            return np.empty(shape, dtype)
        if size > self._buffer.size or sys.getrefcount(self._buffer) > _OWN_REFERENCES:
            self._buffer = np.empty(size, np.uint8)
        return self._buffer[:size].view(dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def multiplier(action: Action, element: FlatElement) -> FloatArray | None:
    """(length of the axis,) factors of one action; None when all are 1."""
    factor = np.ones(len(action.unit))
    if action.exponent:
        factor = np.append(element.scale, 1.0)[action.scale] ** (action.power * action.exponent)
    if action.signed:
        factor = factor * np.append(element.sign, 1.0)[action.sign]
        odd = np.append(element.shift, 0)[action.shift] % 2 != 0
        factor = np.where(odd, -factor, factor)
    return None if (factor == 1.0).all() else factor


def source(action: Action, element: FlatElement) -> IntArray | None:
    """(length of the axis,) where each slot's content comes from; None when nothing moves."""
    units = np.append(element.permutation, -1)[action.unit]
    if np.array_equal(units, action.unit):
        return None
    movable = action.unit >= 0
    slots = np.flatnonzero(movable)
    code = mix(action.unit[slots], action.label[slots])
    order = np.argsort(code)
    wanted = mix(units[slots], action.label[slots])
    out = np.arange(len(units), dtype=np.int64)
    out[slots] = slots[order[np.searchsorted(code, wanted, sorter=order)]]
    return out


def transformed(
    array: Array,
    actions: tuple[Action, ...],
    element: FlatElement,
    space: Callable[[tuple[int, ...], np.dtype[Any]], Array] = np.empty,
) -> Array:
    """One tensor after the element; the same array when nothing changes. `space` gives memory for the result."""
    moves: dict[int, IntArray] = {}
    factors: dict[int, FloatArray] = {}
    added: FloatArray | None = None
    offset = 0.0
    for action in actions:
        moved = source(action, element)
        if moved is not None:
            moves[action.dim] = moved
        factor = multiplier(action, element)
        if factor is not None:
            factors[action.dim] = factors.get(action.dim, 1.0) * factor
            offset = offset or action.offset
        if action.phase:
            added = np.append(element.shift, 0)[action.shift] * action.phase
    factors = {dim: factor for dim, factor in factors.items() if not (factor == 1.0).all()}
    if not moves and not factors and (added is None or not added.any()):
        return array
    out = space(array.shape, array.dtype)
    rows = max(1, _SLICE_ENTRIES // max(1, array[:1].size)) if array.ndim else 1
    exact = bool(factors) or added is not None
    for start in range(0, array.shape[0], rows):
        part: Array = array[moves[0][start : start + rows]] if 0 in moves else array[start : start + rows]
        for dim, moved in moves.items():
            if dim:
                part = part.take(moved, axis=dim)
        if exact:
            part = part.astype(np.float64) + offset
            for dim, factor in factors.items():
                line = factor[start : start + rows] if dim == 0 else factor
                part *= line.reshape([-1 if axis == dim else 1 for axis in range(array.ndim)])
            part -= offset
            if added is not None:
                dim = next(action.dim for action in actions if action.phase)
                line = added[start : start + rows] if dim == 0 else added
                part += line.reshape([-1 if axis == dim else 1 for axis in range(array.ndim)])
        with np.errstate(over="ignore"):
            out[start : start + rows] = part.astype(array.dtype)
    return out
