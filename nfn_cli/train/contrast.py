"""train/contrast.py: networks that were never trained, made from trained ones. Knows graphs and arrays; no zoo, no card.

What the in-distribution test must reject: the same graph with entries drawn anew, and trained networks whose entries
were shuffled within each tensor, which keeps every entrywise statistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph, Op

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]
_BIAS_DEVIATION = 0.05


def shuffled(tensors: Tensors, seed: int) -> dict[str, Array]:
    """Each tensor's entries in random order, in every network by itself: name -> (n, *shape)."""
    draw = np.random.default_rng(seed)
    return {
        name: draw.permuted(array.reshape(len(array), -1), axis=1).reshape(array.shape)
        for name, array in tensors.items()
    }


def reinitialised(graph: Graph, tensors: Tensors, seed: int) -> dict[str, Array]:
    """Entries drawn anew by a random rule per network: uniform or normal, scaled by fan-in (He, Glorot, torch's default).

    Biases are zero, small normal, or torch's uniform default. Norms are the identity, as they are before training.
    Tensors that no layer or norm names stay as they are.
    """
    draw = np.random.default_rng(seed)
    count = len(next(iter(tensors.values())))
    rule, bias_rule = draw.integers(0, 4, count), draw.integers(0, 3, count)
    fresh = dict(tensors)
    for op in graph.ops:
        if op.kind in ("linear", "conv") and "weight" in op.parameters:
            name = op.parameters["weight"]
            fan_in, fan_out = _fans(op, tensors[name].shape[1:])
            fresh[name] = _weights(draw, rule, tensors[name], fan_in, fan_out)
            if "bias" in op.parameters:
                name = op.parameters["bias"]
                fresh[name] = _biases(draw, bias_rule, tensors[name], fan_in)
        elif op.kind.endswith("_norm"):
            for role, name in op.parameters.items():
                value = 1.0 if role in ("weight", "running_var") else 0.0
                fresh[name] = np.full_like(tensors[name], value)
    return fresh


def _fans(op: Op, shape: tuple[int, ...]) -> tuple[int, int]:
    outgoing, incoming = shape[op.attributes.get("out_axis", 0)], shape[op.attributes.get("in_axis", 1)]
    positions = prod(shape) // (outgoing * incoming)
    return incoming * positions, outgoing * positions


def _weights(draw: np.random.Generator, rule: Array, like: Array, fan_in: int, fan_out: int) -> Array:
    # standard deviations: torch's default (uniform ±1/√fan_in), He, Glorot, He with uniform entries
    deviations = np.array([1 / sqrt(3 * fan_in), sqrt(2 / fan_in), sqrt(2 / (fan_in + fan_out)), sqrt(2 / fan_in)])
    normal = draw.standard_normal(like.shape)
    uniform = draw.uniform(-sqrt(3), sqrt(3), like.shape)
    entries = np.where(_each((rule == 0) | (rule == 3), like), uniform, normal)
    return np.asarray(entries * _each(deviations[rule], like), like.dtype)


def _biases(draw: np.random.Generator, rule: Array, like: Array, fan_in: int) -> Array:
    small = draw.standard_normal(like.shape) * _BIAS_DEVIATION
    bound = draw.uniform(-1, 1, like.shape) / sqrt(fan_in)
    chosen = np.where(_each(rule == 0, like), 0.0, np.where(_each(rule == 1, like), small, bound))
    return np.asarray(chosen, like.dtype)


def _each(per_network: Array, like: Array) -> Array:
    return per_network.reshape(-1, *(1,) * (like.ndim - 1))
