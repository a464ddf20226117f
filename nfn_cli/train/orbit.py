"""train/orbit.py: moves many networks of one graph along their orbits at once, each by its own random group element.

Knows stacked tensors and the symmetry core; no zoo, no file, no loop over rows or units. `symmetry/action.py` does the same
for one network and is what this is tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.symmetry.axis import IntArray, mix
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.train.moves import FlatBatch, OrbitMove, drawn, moves_for

Array = np.ndarray[Any, np.dtype[Any]]
__all__ = ["OrbitMove", "acted", "moved", "moves_for"]

# Entries of one tensor that stand in float64 at a time.
_PIECE_ENTRIES = 1 << 21


def moved(
    graph: Graph,
    symmetry: Symmetry,
    tensors: Mapping[str, Array],
    move: OrbitMove,
    seed: int,
    dtype: Any = np.float32,
) -> dict[str, Array]:
    """Every row moved by a random element of its own.

    Args:
        graph: of every row; `symmetry` is `find_symmetry` of it.
        tensors: name -> (rows, *shape of that tensor in the graph); further names are passed on as they are.
        move: kind and size of the elements; see `OrbitMove`.
        seed: rows, move and seed settle the result.
        dtype: of the results that changed; the arithmetic is float64.

    Raises:
        Refused: a tensor of the graph is missing or has another shape (code "shape-mismatch").
    """
    rows = _rows(graph, tensors)
    return acted(symmetry, tensors, drawn(symmetry, move, rows, np.random.default_rng(seed)), dtype)


def acted(
    symmetry: Symmetry, tensors: Mapping[str, Array], elements: FlatBatch, dtype: Any = np.float32
) -> dict[str, Array]:
    """Row i of every tensor after element i. Tensors on which the group does not act are passed on as they are."""
    return {
        name: _acted(array, symmetry.actions[name], elements, dtype) if name in symmetry.actions else array
        for name, array in tensors.items()
    }


def _rows(graph: Graph, tensors: Mapping[str, Array]) -> int:
    counts = {len(tensors[name]) for name in graph.parameter_shapes if name in tensors}
    for name, shape in graph.parameter_shapes.items():
        if name not in tensors or tuple(tensors[name].shape[1:]) != tuple(shape) or len(counts) != 1:
            raise Refused(f"needs {name} as (rows, {', '.join(map(str, shape))})", code="shape-mismatch")
    return counts.pop() if counts else 0


def _acted(array: Array, actions: tuple[Action, ...], elements: FlatBatch, dtype: Any) -> Array:
    out = np.empty(array.shape, dtype)
    step = max(1, _PIECE_ENTRIES // max(1, array[:1].size))
    for start in range(0, len(array), step):
        piece = slice(start, start + step)
        with np.errstate(over="ignore"):
            out[piece] = _piece(array[piece], actions, elements.rows(piece))
    return out


def _piece(part: Array, actions: tuple[Action, ...], elements: FlatBatch) -> Array:
    """Whole axes change places first; then the columns of grouped weights, by the rows they now stand in; then numbers."""
    whole = [action for action in actions if action.groups == 1]
    # several actions on one axis move it in one and the same way
    for dim, action in {action.dim: action for action in whole}.items():
        if (index := sources(action, elements)) is not None:
            part = _taken(part, index, dim + 1)
    part = part.astype(np.float64)
    for action in actions:
        if action.groups > 1:
            part = _grouped(part, action, elements)
    offset = next((action.offset for action in whole if action.offset), 0.0)
    if offset:
        part += offset
    for action in whole:
        if (factor := multipliers(action, elements)) is not None:
            part *= _along(factor, action.dim, part.ndim)
    if offset:
        part -= offset
    for action in whole:
        if action.phase:
            part += _along(_padded(elements.shift, 0)[:, action.shift] * action.phase, action.dim, part.ndim)
    return part


def _taken(part: Array, index: IntArray, axis: int) -> Array:
    """Row r of the result is row r of `part` with slices `index[r]` along `axis`; whatever lies behind is copied in one piece."""
    flat = part.reshape(len(part), -1, part.shape[axis], *part.shape[axis + 1 :])
    row, before = np.arange(len(part))[:, None, None], np.arange(flat.shape[1])[:, None]
    return np.asarray(flat[row, before, index[:, None, :]].reshape(part.shape))


def multipliers(action: Action, elements: FlatBatch) -> FloatArray | None:
    """(rows, length of the axis) factors of one action; None when all are 1."""
    factor: Any = None
    if action.exponent:
        powers = action.power * action.exponent
        factor = (_padded(elements.scale, 1.0)[:, action.scale] ** powers).prod(axis=1)
    if action.signed:
        signs = _padded(elements.sign, 1.0)[:, action.sign].prod(axis=1)
        odd = _padded(elements.shift, 0)[:, action.shift] % 2 != 0
        signs = np.where(odd, -signs, signs)
        factor = signs if factor is None else factor * signs
    return None if factor is None or (factor == 1.0).all() else np.asarray(factor)


def sources(action: Action, elements: FlatBatch) -> IntArray | None:
    """(rows, length of the axis) where each slot's content comes from; None when no row moves anything."""
    units = _padded(elements.permutation, -1)[:, action.unit]
    moves = units != action.unit
    if not moves.any():
        return None
    code = mix(action.unit, action.label)
    order = np.argsort(code)
    wanted = mix(units, np.broadcast_to(action.label, units.shape))
    at = np.minimum(np.searchsorted(code, wanted, sorter=order), len(order) - 1)
    # units that stay may have several slots under one label, which this could not tell apart
    return np.where(moves, order[at], np.arange(len(order)))


def _grouped(part: Array, action: Action, elements: FlatBatch) -> Array:
    """Axis 1 of a grouped convolution's weight: each group of its rows has units of its own along it."""
    groups, width = action.groups, len(action.unit) // action.groups

    def for_each_row(values: Array) -> Array:
        by_group = values.reshape(len(values), groups, width)
        return _at(np.repeat(by_group, part.shape[1] // groups, axis=1), part.ndim)

    index, factor = sources(action, elements), multipliers(action, elements)
    if index is not None:
        part = np.take_along_axis(part, for_each_row(index % width), axis=2)
    return part if factor is None else part * for_each_row(factor)


def _at(values: Array, rank: int) -> Array:
    """Axes of length 1 behind, up to `rank`."""
    return values.reshape(*values.shape, *(1,) * (rank - values.ndim))


def _along(values: Array, dim: int, rank: int) -> Array:
    """(rows, n) -> (rows, 1, …, n, …, 1) with n on axis dim + 1 of `rank`."""
    return values.reshape(len(values), *(-1 if axis == dim else 1 for axis in range(rank - 1)))


def _padded(values: Any, last: float) -> Any:
    """One more column, for the index −1."""
    return np.concatenate([values, np.full((len(values), 1), last, values.dtype)], axis=1)
