"""canonical/projection.py: one number per unit, from a tensor contracted with numbers of the units on its other axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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


def label_numbers(action: Action, salt: int) -> FloatArray:
    """One number a slot: by label where it belongs to a unit, by position where it is fixed."""
    position = mix(np.arange(len(action.unit)), 3)
    return np.where(action.unit >= 0, np.abs(fixed_numbers(action.label, salt)), fixed_numbers(position, salt))


def side_vector(
    actions: list[Action], keys: FloatArray, element: FlatElement, length: int, dim: int, salt: int
) -> FloatArray:
    """What one axis is contracted with: its units' keys times what the element does to the axis."""
    if not actions:
        return fixed_numbers(mix(np.arange(length), dim), salt)
    vector = label_numbers(actions[0], salt) * np.where(
        actions[0].unit >= 0, np.append(keys, 1.0)[actions[0].unit], 1.0
    )
    for action in actions:
        factor = multiplier(action, element)
        if factor is not None:
            vector = vector * factor
    return vector


def projected(
    array: Array, actions: tuple[Action, ...], dim: int, keys: FloatArray, element: FlatElement, salt: int = 0
) -> FloatArray:
    """(length of axis `dim`,) the tensor, after the element's scales and signs, contracted over all other axes."""
    grouped = next((action for action in actions if action.groups > 1), None)
    if grouped is not None:
        return _grouped_projection(array, actions, grouped, dim, keys, element, salt)
    if array.size == array.shape[dim]:
        return np.asarray(transformed(array.astype(np.float64), actions, element), np.float64).reshape(-1)
    sides: Mapping[int, FloatArray] = {
        other: side_vector([a for a in actions if a.dim == other], keys, element, array.shape[other], other, salt)
        for other in range(array.ndim)
        if other != dim
    }
    result = _contracted(array, dim, sides)
    for action in actions:
        if action.dim == dim:
            factor = multiplier(action, element)
            if factor is not None:
                result = result * factor
    return result


def _grouped_projection(
    array: Array,
    actions: tuple[Action, ...],
    grouped: Action,
    dim: int,
    keys: FloatArray,
    element: FlatElement,
    salt: int,
) -> FloatArray:
    """Axis 0 and the columns of each group of rows are contracted with each other; the kernel with fixed numbers."""
    kernel = np.ones(1)
    for axis in range(2, array.ndim):
        kernel = np.multiply.outer(kernel, side_vector([], keys, element, array.shape[axis], axis, salt)).reshape(-1)
    matrix = array.reshape(*array.shape[:2], -1).astype(np.float64) @ kernel
    matrix = matrix.reshape(grouped.groups, -1, array.shape[1])  # (groups, rows, columns)
    rows = side_vector([a for a in actions if a.dim == 0], keys, element, array.shape[0], 0, salt)
    columns = side_vector([grouped], keys, element, len(grouped.unit), 1, salt)
    if dim == 0:
        result = np.einsum("grc,gc->gr", matrix, columns.reshape(grouped.groups, -1)).reshape(-1)
    else:
        result = np.einsum("grc,gr->gc", matrix, rows.reshape(grouped.groups, -1)).reshape(-1)
    for action in actions:
        if action.dim == dim:
            factor = multiplier(action, element)
            if factor is not None:
                result = result * factor
    return np.asarray(result)


def _contracted(array: Array, dim: int, sides: Mapping[int, FloatArray]) -> FloatArray:
    shape = array.shape
    width = array.size // shape[0]
    rows = max(1, _SLICE_ENTRIES // max(1, width))
    rest = [axis for axis in range(1, array.ndim) if axis != dim]
    if dim == 0:
        flat = np.ones(1)
        for axis in rest:
            flat = np.multiply.outer(flat, sides[axis])
        flat = flat.reshape(-1)
        out = np.empty(shape[0])
        for start in range(0, shape[0], rows):
            out[start : start + rows] = array[start : start + rows].reshape(-1, width).astype(np.float64) @ flat
        return out
    total = np.zeros(width)
    for start in range(0, shape[0], rows):
        part = array[start : start + rows].reshape(-1, width).astype(np.float64)
        total += sides[0][start : start + rows] @ part
    left = total.reshape(shape[1:])
    for axis in sorted(rest, reverse=True):
        left = np.tensordot(left, sides[axis], axes=(axis - 1, 0))
    return np.asarray(left)
