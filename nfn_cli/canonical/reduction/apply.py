"""canonical/reduction/apply.py: weights and graphs without the units that go. Arrays and graphs in, arrays and graphs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nfn_cli.canonical.reduction.dead import Reader
from nfn_cli.canonical.reduction.layout import Layout, Place
from nfn_cli.canonical.reduction.movement import movement
from nfn_cli.canonical.reduction.reading import Array, Reading, Tensors, Terms
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.relations import BoolArray

_CHUNK_ENTRIES = 1 << 20


def rewritten(
    readers: Sequence[Reader], tensors: Tensors, aliases: Mapping[str, str], keep: BoolArray
) -> dict[str, Array]:
    """Tensors in which kept slots take over what removed ones did; shapes stay."""
    changed: dict[str, Array] = {}
    for reader in readers:
        if not reader.rewritable:
            continue
        seen = reader.terms(keep)
        weight = aliases.get(reader.op.parameters["weight"], reader.op.parameters["weight"])
        if len(seen.moved) or seen.mixes:
            changed[weight] = _taken_over(reader.op, reader.reading, seen, tensors[weight])
        if reader.absorber is not None and seen.rest.any():
            added, _ = reader.reading.constants(seen)
            vector = tensors[reader.absorber.tensor]
            total = vector.astype(np.float64) + reader.absorber.sign * added.reshape(vector.shape)
            changed[reader.absorber.tensor] = _cast(total, vector.dtype)
    return changed


def _taken_over(op: Op, reading: Reading, seen: Terms, weight: Array) -> Array:
    g, o, i, k = reading.view.shape
    own = (seen.stand == np.arange(g * i)).reshape(g, i, 1)
    values = np.array(reading.view).reshape(g * o, i, k)
    step = max(1, _CHUNK_ENTRIES // (i * k))
    for start in range(0, g * o, step):
        index = np.arange(start, min(start + step, g * o))
        merged = reading.rows(seen, index)[0].reshape(len(index), i, k)
        # columns that go are left as they are: they are cut off next
        values[index] = _cast(np.where(own[index // o], merged, values[index].astype(np.float64)), weight.dtype)
    dims = (op.attributes["out_axis"], op.attributes["in_axis"])
    return np.moveaxis(values.reshape(np.moveaxis(weight, dims, (0, 1)).shape), (0, 1), dims)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def shrunk(layout: Layout, tensors: Tensors, changed: Mapping[str, Array], keep: BoolArray) -> dict[str, Array]:
    """The tensors that change, with the slots of removed units cut off."""
    out = dict(changed)
    for place in _one_for_each_axis(layout, keep):
        array = out.get(place.tensor, tensors[place.tensor])
        out[place.tensor] = _cut(array, place, keep[place.units])
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def _one_for_each_axis(layout: Layout, keep: BoolArray) -> list[Place]:
    """Axes that lose slots; grouped ones first, while rows still lie as their groups say."""
    found: dict[tuple[str, int], Place] = {}
    for place in layout.places:
        if not keep[place.units].all():
            found.setdefault((place.tensor, place.dim), place)
    return sorted(found.values(), key=lambda place: place.groups == 1)


def _cut(array: Array, place: Place, kept: BoolArray) -> Array:
    if place.groups == 1:
        return array.compress(kept, axis=place.dim)
    columns = np.nonzero(kept.reshape(place.groups, -1))[1].reshape(place.groups, -1)
    rows = np.arange(array.shape[0]) // (array.shape[0] // place.groups)
    index = columns[rows].reshape(array.shape[0], -1, *(1,) * (array.ndim - 2))
    return np.take_along_axis(array, index, axis=1)


def narrowed(
    network: Network, layout: Layout, number: int, shapes: Mapping[str, tuple[int, ...]], keep: BoolArray
) -> Network:
    """The network's graph over tensors of the new shapes."""
    graph: Graph = network.graph
    ops = tuple(_narrowed_op(op, layout, number, shapes, keep) for op in graph.ops)
    kept = {name: shapes.get(name, shape) for name, shape in graph.parameter_shapes.items()}
    return replace(network, graph=replace(graph, ops=ops, parameter_shapes=kept))


def _narrowed_op(op: Op, layout: Layout, number: int, shapes: Mapping[str, tuple[int, ...]], keep: BoolArray) -> Op:
    values = layout.values[number]
    if op.kind == "conv" and len(op.inputs) == 1 and int(op.attributes.get("groups", 1)) > 1:
        into = values[op.inputs[0]][1]
        weight = shapes[op.parameters["weight"]]
        if (
            isinstance(into, np.ndarray)
            and not op.attributes.get("transposed")
            and weight[op.attributes["in_axis"]] == 1
        ):
            return _with(op, groups=int(keep[into].sum()))
    if op.kind not in ("reshape", "expand"):
        return op
    value, output = values[op.inputs[0]], values[op.output]
    shape = [int(entry) for entry in op.attributes["shape"]]
    lengths = [tuple(len(a) if isinstance(a, np.ndarray) else a for a in axes) for axes in (value, output)]
    for place, units in enumerate(value):
        if not isinstance(units, np.ndarray) or keep[units].all():
            continue
        moved = movement(op, [place - len(value)], lengths[:1], lengths[1])
        if moved is not None:
            shape[moved.axis] = int(keep[units[moved.index]].sum())
    return _with(op, shape=shape)


def _with(op: Op, **attributes: Any) -> Op:
    return replace(op, attributes={**op.attributes, **attributes})
