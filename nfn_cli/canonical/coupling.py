"""canonical/coupling.py: how strongly scale classes pull at each other: squared (or largest) weights summed per pair of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
_SLICE_ENTRIES = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One scaled axis of a tensor: group g of its slots is multiplied by exp(Σ_j coefficient[j, g] · x[classes[j, g]]).

    `classes` (J, G) index the vector x of log-scales, whose last entry is 0 and stands for "fixed".
    """

    classes: IntArray
    coefficient: FloatArray

    def log_factor(self, x: FloatArray) -> FloatArray:
        return np.asarray((self.coefficient * x[self.classes]).sum(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """One tensor, summed up: `matrix` (G_rows, G_columns) of squares (or maxima) between two sides."""

    tensor: str
    matrix: FloatArray
    rows: Side
    columns: Side
    dims: int


def couplings(
    symmetry: Symmetry, tensors: Tensors, x: FloatArray, settled: BoolArray, largest: bool = False
) -> list[Coupling]:
    """All tensors that scales touch, except variances (their scale is settled in closed form).

    Args:
        x: (classes + 1,) log-scales; those of settled classes are final.
        settled: (classes + 1,) a side of which all classes are settled is summed up at once, so that the whole of it never
            stands in memory together with others.
        largest: take the largest |entry| of each pair instead of the sum of squares.
    """
    fixed = number_of_classes(symmetry)
    found = []
    for name, actions in symmetry.actions.items():
        if any(action.exponent == 2 for action in actions):
            continue
        scaled = sorted({a.dim for a in actions if a.scaled})
        if not scaled:
            continue
        if len(scaled) > 2:
            raise NotImplementedError(f"{name} has more than two scaled axes")
        whole = tensors[name]
        array = _unfolded(whole, actions, largest)
        groups = [_grouped([a for a in actions if a.dim == dim and a.exponent], symmetry, fixed) for dim in scaled]
        matrix = _reduced(array, scaled, [group for group, _ in groups], largest)
        sides = [side for _, side in groups]
        if len(sides) == 1:
            sides.append(Side(np.full((1, 1), fixed, np.int64), np.zeros((1, 1))))
            matrix = matrix[:, None]
        found.append(_summed_up(Coupling(name, matrix, sides[0], sides[1], whole.ndim), x, settled, largest))
    return found


def _summed_up(term: Coupling, x: FloatArray, settled: BoolArray, largest: bool) -> Coupling:
    power = 1.0 if largest else 2.0
    rows, columns, matrix = term.rows, term.columns, term.matrix
    nothing = Side(np.full((1, 1), len(settled) - 1, np.int64), np.zeros((1, 1)))
    if len(matrix) > 1 and settled[rows.classes].all():
        scaled = np.exp(power * rows.log_factor(x))
        total = (scaled[:, None] * matrix).max(axis=0) if largest else scaled @ matrix
        rows, matrix = nothing, total[None, :]
    if matrix.shape[1] > 1 and settled[columns.classes].all():
        scaled = np.exp(power * columns.log_factor(x))
        total = (matrix * scaled).max(axis=1) if largest else matrix @ scaled
        columns, matrix = nothing, total[:, None]
    return Coupling(term.tensor, matrix, rows, columns, term.dims)


def _unfolded(
    array: np.ndarray[Any, np.dtype[Any]], actions: tuple[Action, ...], largest: bool
) -> np.ndarray[Any, np.dtype[Any]]:
    """A grouped convolution's weight as a block-diagonal matrix of the kernels' norms (or largest entries)."""
    groups = max(action.groups for action in actions)
    if groups == 1:
        return array
    sizes = _energy(array.reshape(*array.shape[:2], -1), largest)
    sizes = sizes if largest else np.sqrt(sizes)
    rows, width = sizes.shape
    out = np.zeros((rows, groups * width))
    columns = (np.arange(rows) // (rows // groups))[:, None] * width + np.arange(width)
    np.put_along_axis(out, columns, sizes, axis=1)
    return out


def number_of_classes(symmetry: Symmetry) -> int:
    return int(symmetry.classes["scale"].max(initial=-1)) + 1


def _grouped(actions: list[Action], symmetry: Symmetry, fixed: int) -> tuple[IntArray, Side]:
    """Slots that always get the same factor form a group."""
    classes = np.concatenate([np.append(symmetry.classes["scale"], fixed)[action.scale] for action in actions])
    powers = np.concatenate([action.power * action.exponent for action in actions]).astype(np.float64)
    powers[classes == fixed] = 0.0
    _, first, group = np.unique(
        np.concatenate([classes, powers.astype(np.int64)]), axis=1, return_index=True, return_inverse=True
    )
    order = np.argsort(np.argsort(first))
    group = order[group.reshape(-1)]
    first = np.sort(first)
    return group, Side(classes[:, first], powers[:, first])


def _reduced(
    array: np.ndarray[Any, np.dtype[Any]], dims: list[int], groups: list[IntArray], largest: bool
) -> FloatArray:
    """Sum the squares over all axes but `dims`, then over the slots of each group."""
    moved = np.moveaxis(array, dims, range(len(dims)))
    columns = moved.shape[1] if len(dims) == 2 else 1
    flat = moved.reshape(moved.shape[0], columns, -1) if moved.flags.c_contiguous else moved
    size = [int(group.max(initial=-1)) + 1 for group in groups]
    out = np.zeros((size[0], size[1] if len(dims) == 2 else 1))
    rows = max(1, _SLICE_ENTRIES // max(1, array.size // max(1, array.shape[dims[0]])))
    reduce = np.maximum if largest else np.add
    for start in range(0, moved.shape[0], rows):
        part = flat[start : start + rows]
        part = part.reshape(part.shape[0], columns, -1)
        summed = _energy(part, largest)
        if len(dims) == 2:
            summed = _by_group(summed, groups[1], size[1], reduce)
        target = groups[0][start : start + rows]
        if len(np.unique(target)) == len(target):
            out[target] = reduce(out[target], summed)
        else:
            reduce.at(out, target, summed)
    return out if len(dims) == 2 else out[:, 0]


def _energy(part: np.ndarray[Any, np.dtype[Any]], largest: bool) -> FloatArray:
    """(R, C, K) -> (R, C)."""
    if largest:
        return np.asarray(np.abs(part).max(axis=2, initial=0.0), np.float64)
    wide = part.astype(np.float64)
    if part.shape[2] == 1:
        return np.asarray(np.square(wide, out=wide)[:, :, 0])
    return np.asarray(np.einsum("rck,rck->rc", wide, wide))


def _by_group(values: FloatArray, group: IntArray, size: int, reduce: np.ufunc) -> FloatArray:
    if size == len(group):
        if np.array_equal(group, np.arange(size)):
            return values
        out = np.empty_like(values)
        out[:, group] = values
        return out
    order = np.argsort(group, kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        values = values[:, order]
    starts = np.searchsorted(group[order], np.arange(size))
    return np.asarray(reduce.reduceat(values, starts, axis=1))
