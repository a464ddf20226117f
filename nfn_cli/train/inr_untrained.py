"""train/inr_untrained.py: INRs before any training, from fitted ones. Knows graphs and arrays; no zoo, no card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph

Array = np.ndarray[Any, np.dtype[Any]]
Copy = Callable[[Graph, Mapping[str, Array]], dict[str, Array]]


def untrained_sines(seed: int) -> Copy:
    """Entries drawn anew as for SIREN (Sitzmann et al. 2020): name -> (n, *shape) of the same shapes.

    The first layer's frequencies are between half and twice the usual ones, the size of the last layer is any.
    """

    def copy(graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        draw = np.random.default_rng(seed)
        fresh = dict(tensors)
        layers = [op for op in graph.ops if op.kind == "linear"]
        waves = [op for op in graph.ops if op.kind == "pointwise"]
        for number, op in enumerate(layers):
            weight = tensors[op.parameters["weight"]]
            rows, incoming = len(weight), weight.shape[1 + op.attributes.get("in_axis", 1)]
            omega = float(np.mean(waves[number - 1].attributes.get("omega", 1.0))) if number else 1.0
            bound = np.sqrt(6 / incoming) / omega if number else 1 / incoming
            factor = 2 ** draw.uniform(-1, 1, (rows, 1, 1)) if number in (0, len(layers) - 1) else 1.0
            fresh[op.parameters["weight"]] = (draw.uniform(-bound, bound, weight.shape) * factor).astype(weight.dtype)
            if "bias" in op.parameters:
                bias = tensors[op.parameters["bias"]]
                fresh[op.parameters["bias"]] = (draw.uniform(-1, 1, bias.shape) / np.sqrt(incoming)).astype(bias.dtype)
        return fresh

    return copy
