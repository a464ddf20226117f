"""predictors/chain_input.py: the plain chain inside a graph, in torch layout, for one network or many at once. Knows graph/,
arrays; no torch or file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ChainWeights:
    """Linear maps one after another, a pointwise function between them.

    Attributes:
        weights: (out, in, *kernel) each (of many networks: (n, out, in, *kernel)), convolutions first; a linear layer
            after a flatten has in = channels · pixels, channel outer.
        biases: (out,) each; zeros where the layer has none.
        activations: function after each layer but the last; "identity" where there is none.
        pooling_between: pooling that a chain of strided convolutions does not have: any maximum, and averages before
            the last convolution. Averages whose window is not known are left out (`pool`, from names alone).
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activations: tuple[str, ...]
    pooling_between: tuple[str, ...] = ()


_REDUCTIONS = ("max_pool", "average_pool", "pool", "spatial_mean", "flatten")


def chain_of(graph: Graph, tensors: Mapping[str, Array]) -> ChainWeights:
    """One network as a plain chain; see `chains_of`."""
    names = {name for op in graph.ops for name in op.parameters.values()}
    stacked = chains_of(graph, {name: np.asarray(tensors[name])[None] for name in names})
    return replace(
        stacked, weights=tuple(w[0] for w in stacked.weights), biases=tuple(bias[0] for bias in stacked.biases)
    )


def chains_of(graph: Graph, stacked: Mapping[str, Array]) -> ChainWeights:
    """Networks of one graph as plain chains: every array has one more axis, first, for the networks.

    Raises:
        Refused (code "not-a-plain-chain"): an op that a chain does not have, a branch, several inputs or outputs.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise _not_a_chain(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    value = graph.inputs[0].name
    weights: list[Array] = []
    biases: list[Array] = []
    after: list[list[str]] = []
    pooling: list[tuple[int, str]] = []  # layers before it, kind
    channel_inner = False
    for op in graph.ops:
        if tuple(op.inputs) != (value,):
            raise _not_a_chain(f"{op.kind} reads {', '.join(op.inputs)}, not what the op before it wrote")
        value = op.output
        if op.kind in ("linear", "conv"):
            below = weights[-1].shape[1] if weights else None
            weights.append(_torch_layout(op, stacked, below if channel_inner else None))
            biases.append(_bias(op, stacked, weights[-1]))
            after.append([])
            channel_inner = False
        elif op.kind == "pointwise":
            function = str(op.attributes.get("function", "unknown"))
            if not after:
                raise _not_a_chain(f"{function} before the first layer")
            if function != "identity":
                after[-1].append(function)
        elif op.kind in _REDUCTIONS:
            # Front ends that see names alone assume pooling where they cannot exclude it; it is not a fact then.
            if not op.attributes.get("assumed", False):
                pooling.append((len(weights), _pooling_kind(op)))
            channel_inner = channel_inner or op.attributes.get("order") == "channel_inner"
        else:
            raise _not_a_chain(f"it has {op.kind.replace('_', ' ')}")
    if value != graph.outputs[0]:
        raise _not_a_chain("the last op does not write the output")
    if not weights:
        raise _not_a_chain("it has no layer with weights")
    if any(len(functions) > 1 for functions in after):
        raise _not_a_chain("two activations follow one another")
    if after[-1]:
        raise _not_a_chain(f"the output passes through {after[-1][0]}")
    names = tuple(functions[0] if functions else "identity" for functions in after[:-1])
    convolutions = sum(weight.ndim > 3 for weight in weights)
    between = tuple(
        kind for layer, kind in pooling if kind == "max_pool" or (kind == "average_pool" and layer < convolutions)
    )
    return ChainWeights(tuple(weights), tuple(biases), names, between)


def _pooling_kind(op: Op) -> str:
    return "max_pool" if op.kind == "pool" and op.attributes.get("statistic") == "max" else op.kind


def _not_a_chain(detail: str) -> Refused:
    return Refused(
        f"not a plain chain of linear layers and convolutions: {detail}",
        fix="predictors take plain chains only",
        code="not-a-plain-chain",
    )


def _torch_layout(op: Op, stacked: Mapping[str, Array], channels_below: int | None) -> Array:
    """Weights as (n, out, in, *kernel); after a channels-last flatten the input axis is put into channel-outer order."""
    weight = np.asarray(stacked[op.parameters["weight"]])
    if int(op.attributes.get("groups", 1)) != 1:
        raise _not_a_chain(f"{op.parameters['weight']} is a grouped convolution")
    out_axis, in_axis = op.attributes.get("out_axis", 0), op.attributes.get("in_axis", 1)
    weight = np.moveaxis(weight, (out_axis + 1, in_axis + 1), (1, 2))
    if channels_below is not None and weight.shape[2] % channels_below == 0:
        split = weight.reshape(*weight.shape[:2], -1, channels_below)
        weight = split.transpose(0, 1, 3, 2).reshape(weight.shape)
    return weight


def _bias(op: Op, stacked: Mapping[str, Array], weight: Array) -> Array:
    name = op.parameters.get("bias")
    rows, outgoing = weight.shape[:2]
    return np.zeros((rows, outgoing), np.float32) if name is None else np.asarray(stacked[name]).reshape(rows, -1)
