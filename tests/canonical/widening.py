"""A wider network with the same function: each free unit split in two that share its outgoing mass, then moved by the group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nfn_cli.canonical.reduction.layout import Layout, find_layout
from nfn_cli.graph.model import Network, Op
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry.networks import Tensors


def widened(network: Network, tensors: Tensors, seed: int) -> tuple[Network, Tensors]:
    """Every free unit twice; layers that read it take α of one and 1 − α of the other."""
    layout = find_layout([network], {})
    generator = np.random.default_rng(seed)
    wide = dict(tensors)
    axes = {(place.tensor, place.dim): place for place in layout.places}
    for (tensor, dim), place in axes.items():
        units = place.units
        if place.groups > 1:  # the columns of every group alike
            units = units.reshape(place.groups, -1)[0]
        wide[tensor] = wide[tensor].take(_twice(units, layout.fixed), axis=dim)
    for op in network.graph.ops:
        if op.kind in ("linear", "conv") and len(op.inputs) == 1 and not _depthwise(op, tensors):
            axis = -1 if op.kind == "linear" else 1
            _share(
                op,
                layout,
                wide,
                layout.units(0, op.inputs[0], axis if axis < 0 else 1 - len(layout.values[0][op.inputs[0]])),
                generator,
            )
    shapes = {name: array.shape for name, array in wide.items()}
    ops = tuple(_wider(op, layout, tensors) for op in network.graph.ops)
    return replace(network, graph=replace(network.graph, ops=ops, parameter_shapes=shapes)), wide


def moved(network: Network, tensors: Tensors, seed: int, scales: tuple[float, float] = (0.25, 4.0)) -> Tensors:
    """After a random element of the group."""
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, seed, scales=scales))
    return {name: np.asarray(view[name]) for name in view}


def _twice(units: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Where each slot of the wider axis comes from; slots of one unit that stand in a row stay together."""
    new = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    runs = np.split(np.arange(len(units)), new[1:])
    return np.concatenate([np.tile(run, 1 if fixed[units[run[0]]] else 2) for run in runs])


def _share(op: Op, layout: Layout, wide: Tensors, units: np.ndarray | None, generator: np.random.Generator) -> None:
    if units is None:
        return
    groups = int(op.attributes.get("groups", 1))
    own = units.reshape(groups, -1)[0]
    source = _twice(own, layout.fixed)
    order = np.argsort(source, kind="stable")
    part = np.ones(len(source))
    double = np.flatnonzero(source[order][1:] == source[order][:-1])
    share = generator.uniform(0.2, 0.8, len(double))
    part[order[double]], part[order[double + 1]] = share, 1 - share
    name, axis = op.parameters["weight"], op.attributes["in_axis"]
    shape = [1] * wide[name].ndim
    if groups > 1 and op.attributes.get("transposed"):
        part = np.tile(part, groups)
    shape[axis] = -1
    wide[name] = wide[name] * part.reshape(shape)


def _depthwise(op: Op, tensors: Tensors) -> bool:
    groups = int(op.attributes.get("groups", 1))
    return groups > 1 and tensors[op.parameters["weight"]].shape[op.attributes["in_axis"]] == 1


def _wider(op: Op, layout: Layout, tensors: Tensors) -> Op:
    value = layout.values[0].get(op.inputs[0]) if op.inputs else None
    if op.kind == "conv" and _depthwise(op, tensors) and value is not None:
        return replace(op, attributes={**op.attributes, "groups": len(_twice(value[1], layout.fixed))})
    if op.kind == "reshape":
        output = layout.values[0][op.output]
        shape = [
            len(_twice(axis, layout.fixed)) if isinstance(axis, np.ndarray) else length
            for axis, length in zip(output, op.attributes["shape"], strict=True)
        ]
        return replace(op, attributes={**op.attributes, "shape": shape})
    return op
