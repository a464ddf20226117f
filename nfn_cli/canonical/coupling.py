"""canonical/coupling.py: how strongly scale classes pull at each other: squared (or largest) weights summed per pair of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfn_cli.canonical.blocks import BlockMatrix, Room, whole
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
Product = Callable[[FloatArray], FloatArray]
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
    matrix: BlockMatrix
    rows: Side
    columns: Side
    dims: int

    def ends(self) -> tuple[tuple[Side, Side, Product], tuple[Side, Side, Product]]:
        """From either side: that side, the other one, and what sums over the other one, weighted by its groups."""
        return (self.rows, self.columns, self.matrix.times), (self.columns, self.rows, self.matrix.times_left)


def couplings(
    symmetry: Symmetry, tensors: Tensors, x: FloatArray, settled: BoolArray, largest: bool = False
) -> list[Coupling]:
    """All tensors that scales touch, except variances (their scale is settled in closed form).

    Args:
        x: (classes + 1,) log-scales; those of settled classes are final.
        settled: (classes + 1,) a side of which all classes are settled is summed up at once.
        largest: take the largest |entry| of each pair instead of the sum of squares.
    """
    fixed, room = number_of_classes(symmetry), Room()
    found = []
    for name, actions in symmetry.actions.items():
        if any(action.exponent == 2 for action in actions):
            continue
        scaled = sorted({a.dim for a in actions if a.scaled})
        if not scaled:
            continue
        if len(scaled) > 2:
            raise NotImplementedError(f"{name} has more than two scaled axes")
        groups = [_grouped([a for a in actions if a.dim == dim and a.exponent], symmetry, fixed) for dim in scaled]
        matrix = _matrix(tensors, name, actions, scaled, [group for group, _ in groups], largest)
        sides = [side for _, side in groups]
        if len(sides) == 1:
            sides.append(Side(np.full((1, 1), fixed, np.int64), np.zeros((1, 1))))
        term = Coupling(name, matrix, sides[0], sides[1], tensors[name].ndim)
        term = _summed_up(term, x, settled, largest)
        found.append(replace(term, matrix=room.held(term.matrix)))
    return found


def _matrix(
    tensors: Tensors,
    name: str,
    actions: tuple[Action, ...],
    dims: list[int],
    groups: list[IntArray],
    largest: bool,
) -> BlockMatrix:
    """In blocks where every row is a group of its own; summed up at once where several rows are one."""
    size = [int(group.max(initial=-1)) + 1 for group in groups]
    shape = size[0], size[1] if len(dims) == 2 else 1
    grouped = any(action.groups > 1 for action in actions)
    if len(dims) == 1 or grouped or dims[0] or shape[0] != len(groups[0]):
        array = _unfolded(tensors[name], actions, largest)
        return whole(_reduced(array, dims, groups, shape, largest))
    return BlockMatrix(shape, lambda: _parts(tensors[name], dims, groups, shape, largest))


def _summed_up(term: Coupling, x: FloatArray, settled: BoolArray, largest: bool) -> Coupling:
    power = 1.0 if largest else 2.0
    rows, columns, matrix = term.rows, term.columns, term.matrix
    nothing = Side(np.full((1, 1), len(settled) - 1, np.int64), np.zeros((1, 1)))
    if matrix.shape[0] > 1 and settled[rows.classes].all():
        scaled = np.exp(power * rows.log_factor(x))
        total = matrix.largest_left(scaled) if largest else matrix.times_left(scaled)
        rows, matrix = nothing, whole(total[None, :])
    if matrix.shape[1] > 1 and settled[columns.classes].all():
        scaled = np.exp(power * columns.log_factor(x))
        total = matrix.largest_right(scaled) if largest else matrix.times(scaled)
        columns, matrix = nothing, whole(total[:, None])
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
    array: np.ndarray[Any, np.dtype[Any]],
    dims: list[int],
    groups: list[IntArray],
    shape: tuple[int, int],
    largest: bool,
) -> FloatArray:
    """Sum the squares over all axes but `dims`, then over the slots of each group."""
    out = np.zeros(shape)
    reduce = np.maximum if largest else np.add
    if 0 not in dims and len(array) > 1 and array.size > _SLICE_ENTRIES:
        # along the first axis as the tensor lies in the file: across, every part would touch all of it
        rows = max(1, _SLICE_ENTRIES // max(1, array[:1].size))
        for start in range(0, len(array), rows):
            out = reduce(out, _reduced(array[start : start + rows], dims, groups, shape, largest))
        return out
    start = 0
    for summed in _parts(array, dims, groups, shape, largest):
        target = groups[0][start : start + len(summed)]
        start += len(summed)
        if len(np.unique(target)) == len(target):
            out[target] = reduce(out[target], summed)
        else:
            reduce.at(out, target, summed)
    return out


def _parts(
    array: np.ndarray[Any, np.dtype[Any]],
    dims: list[int],
    groups: list[IntArray],
    shape: tuple[int, int],
    largest: bool,
) -> Iterator[FloatArray]:
    """(rows of a part, G_columns) for parts of the first axis of `dims`, summed over all axes but `dims`."""
    moved = np.moveaxis(array, dims, range(len(dims)))
    columns = moved.shape[1] if len(dims) == 2 else 1
    flat = moved.reshape(moved.shape[0], columns, -1) if moved.flags.c_contiguous else moved
    rows = max(1, _SLICE_ENTRIES // max(1, array.size // max(1, array.shape[dims[0]])))
    reduce = np.maximum if largest else np.add
    for start in range(0, moved.shape[0], rows):
        part = flat[start : start + rows]
        part = part.reshape(part.shape[0], columns, -1)
        summed = _energy(part, largest)
        yield _by_group(summed, groups[1], shape[1], reduce) if len(dims) == 2 else summed


def _energy(part: np.ndarray[Any, np.dtype[Any]], largest: bool) -> FloatArray:
    """(R, C, K) -> (R, C)."""
    if largest:
        return np.asarray(np.abs(part).max(axis=2, initial=0.0), np.float64)
    wide = part.astype(np.float64)
    if part.shape[2] == 1:
        with np.errstate(over="ignore"):  # what is infinite is refused where it is used
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
