"""canonical/norm_pairs.py: which batch norms stand directly behind a layer, so that the two are one layer. Graphs and shapes only.

A pair is claimed only where nothing else reads the layer's value and no other op reads the tensors of either; of every other batch
norm the reason is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.element import FloatArray

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class NormPair:
    """A linear layer or convolution and the batch norm that alone reads it; tensor names are those that aliases stand for.

    Attributes:
        network: which of the networks.
        layer: position of the layer among the graph's ops.
        norm: position of the batch norm.
        weight: the layer's weight.
        bias: the layer's bias, where it has one.
        roles: the norm's tensors.
        out_axis: axis of the weight whose slots are output channels.
        groups: of a transposed convolution: each run of input slots has output channels of its own.
        eps: ε of the norm; `eps_known` is False where the graph does not say it and this is a stand-in.
    """

    network: int
    layer: int
    norm: int
    weight: str
    bias: str | None
    roles: Mapping[str, str]
    out_axis: int
    groups: int
    eps: float
    eps_known: bool


def norm_pairs(
    networks: Sequence[Network], aliases: Mapping[str, str]
) -> tuple[tuple[NormPair, ...], tuple[tuple[str, str], ...]]:
    """All pairs in the order of the networks, and (a tensor of the norm, why it stands in none) for every other batch norm."""
    readers = _readers(networks, aliases)
    pairs, others = [], []
    for number, network in enumerate(networks):
        maker = {op.output: position for position, op in enumerate(network.graph.ops)}
        reads = Counter(name for op in network.graph.ops for name in op.inputs) + Counter(network.graph.outputs)
        for position, op in enumerate(network.graph.ops):
            if op.kind != "batch_norm":
                continue
            layer = maker.get(op.inputs[0])
            reason = _why_not(network.graph, layer, op, reads, readers, aliases)
            if reason is None and layer is not None:
                pairs.append(_pair(network.graph, number, layer, position, aliases))
            else:
                others.append((op.parameters["running_var"], reason or ""))
    return tuple(pairs), tuple(others)


def _readers(networks: Sequence[Network], aliases: Mapping[str, str]) -> Counter[str]:
    """How many ops name each tensor, under whatever name."""
    return Counter(
        aliases.get(name, name) for network in networks for op in network.graph.ops for name in op.parameters.values()
    )


def _why_not(
    graph: Graph,
    position: int | None,
    norm: Op,
    reads: Mapping[str, int],
    readers: Mapping[str, int],
    aliases: Mapping[str, str],
) -> str | None:
    layer = None if position is None else graph.ops[position]
    if layer is None or layer.kind not in ("linear", "conv") or "weight" not in layer.parameters:
        return "it does not stand directly behind a layer"
    if len(layer.inputs) != 1 or not layer.attributes.get("trained", True):
        return "the weight of the layer before it is not a trained tensor"
    if reads[layer.output] != 1:
        return "something else reads the layer before it"
    if any(readers[aliases.get(name, name)] != 1 for op in (layer, norm) for name in op.parameters.values()):
        return "its tensors or those of the layer before it are shared with another layer"
    if layer.kind == "linear" and _rank(graph, layer.inputs[0]) != 2:
        return "its channels may not be the units of the layer before it"
    shape, (groups, out_axis) = graph.parameter_shapes[layer.parameters["weight"]], _outputs(layer)
    if any(prod(graph.parameter_shapes[name]) != groups * shape[out_axis] for name in norm.parameters.values()):
        return "its channels are not those of the layer before it"
    return None


def _outputs(layer: Op) -> tuple[int, int]:
    grouped = layer.attributes.get("transposed", False)
    return int(layer.attributes.get("groups", 1)) if grouped else 1, int(layer.attributes["out_axis"])


def _pair(graph: Graph, number: int, layer: int, norm: int, aliases: Mapping[str, str]) -> NormPair:
    made, read = graph.ops[layer], graph.ops[norm]
    groups, out_axis = _outputs(made)
    roles = {role: aliases.get(name, name) for role, name in read.parameters.items()}
    bias = made.parameters.get("bias")
    return NormPair(
        number,
        layer,
        norm,
        aliases.get(made.parameters["weight"], made.parameters["weight"]),
        None if bias is None else aliases.get(bias, bias),
        roles,
        out_axis,
        groups,
        float(read.attributes.get("eps", 1e-5)),
        "eps" in read.attributes and read.attributes.get("eps_known", True),
    )


_KEEPS_RANK = frozenset({"linear", "pointwise", "batch_norm", "layer_norm", "scalar", "clip", "scale", "softmax"})


def _rank(graph: Graph, value: str) -> int | None:
    """How many axes a value has, where that follows from the ops before it."""
    makers = {op.output: op for op in graph.ops}
    while value in makers:
        op = makers[value]
        if op.kind in ("flatten", "spatial_mean"):
            return 2
        if op.kind in ("reshape", "expand"):
            return len(op.attributes["shape"])
        if op.kind not in _KEEPS_RANK:
            return None
        value = op.inputs[0]
    return next((len(entry.shape) for entry in graph.inputs if entry.name == value), None)


def factors(pair: NormPair, tensors: Tensors) -> FloatArray:
    """(channels,) by what the norm multiplies each output of the layer: γ/√(var + ε); 1 without γ. NaN where var + ε ≤ 0."""
    variance = vector(tensors, pair.roles["running_var"]) + pair.eps
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.where(variance > 0, np.sqrt(variance), np.nan)
    gamma = vector(tensors, pair.roles["weight"]) if "weight" in pair.roles else 1.0
    return np.asarray(gamma / deviation)


def vector(tensors: Tensors, name: str) -> FloatArray:
    return np.asarray(tensors[name]).reshape(-1).astype(np.float64)


def scaled(weight: Array, pair: NormPair, factor: FloatArray) -> Array:
    """The weight with every output channel multiplied by its factor, computed in float64 in slices, in the weight's dtype."""
    out = np.empty(weight.shape, weight.dtype)
    for part in _slices(weight.shape, pair):
        along = factor.reshape(pair.groups, -1)[part.group]
        shape = [-1 if axis == pair.out_axis else 1 for axis in range(weight.ndim)]
        if pair.out_axis == 0:
            along = along[part.rows]
        with np.errstate(over="ignore"):
            out[part.rows] = weight[part.rows].astype(np.float64) * along.reshape(shape)
    return out


@dataclass(frozen=True)
class _Slice:
    rows: slice
    group: int


def _slices(shape: tuple[int, ...], pair: NormPair) -> Iterator[_Slice]:
    """Runs of axis 0 that stay in cache; of a transposed convolution with groups none reaches into two groups."""
    step = max(1, (1 << 18) // max(1, prod(shape[1:])))
    length = shape[0] // pair.groups
    for group in range(pair.groups):
        for start in range(group * length, (group + 1) * length, step):
            yield _Slice(slice(start, min(start + step, (group + 1) * length)), group)
