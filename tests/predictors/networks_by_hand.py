"""The zoo's architecture as a graph made by hand, with weights at random, and the monomial group acting on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Graph, GraphInput, Network, Op

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED_ZOO = Path(os.environ.get("NFN_SHARED_DATA") or _BESIDE) / "cnn_zoo_cifar10gs"
EXAMPLES = Path(__file__).resolve().parents[2] / "models" / "examples"
LAYERS = ("conv1", "conv2", "conv3", "fc")
WIDTHS = (1, 16, 16, 16, 10)
ACTIVATIONS = ("relu", "tanh")


def random_tensors(seed: int, level: float = 0.3) -> dict[str, np.ndarray]:
    """Torch layout, float32."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for i, name in enumerate(LAYERS):
        shape = (WIDTHS[i + 1], WIDTHS[i], *((3, 3) if name != "fc" else ()))
        tensors[f"{name}.weight"] = (level * rng.standard_normal(shape)).astype(np.float32)
        tensors[f"{name}.bias"] = (level * rng.standard_normal(WIDTHS[i + 1])).astype(np.float32)
    return tensors


def checkpoint(tensors: Mapping[str, np.ndarray], path: str = "by-hand.safetensors") -> Checkpoint:
    return Checkpoint(path=path, container="safetensors", tensors=MappingProxyType(dict(tensors)))


def network(
    tensors: Mapping[str, np.ndarray],
    activation: str = "relu",
    *,
    channels_last: bool = False,
    extra: tuple[Op, ...] = (),
    reduce: str = "spatial_mean",
) -> Network:
    """conv, activation, conv, activation, conv, activation, `extra`, mean, linear; `extra` reads and writes "x"."""
    ops: list[Op] = []
    value = "input"
    for i, name in enumerate(LAYERS):
        if name == "fc":
            for op in extra:
                ops.append(Op(op.kind, (value,), f"extra{len(ops)}", op.parameters, op.attributes))
                value = ops[-1].output
            ops.append(Op(reduce, (value,), "pooled"))
            value = "pooled"
        axes = {"out_axis": 3, "in_axis": 2} if channels_last else {"out_axis": 0, "in_axis": 1}
        if name == "fc":
            axes = {"out_axis": 1, "in_axis": 0} if channels_last else axes
        roles = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
        ops.append(Op("linear" if name == "fc" else "conv", (value,), f"z{i}", roles, axes))
        value = f"z{i}"
        if name != "fc":
            ops.append(Op("pointwise", (value,), f"a{i}", attributes={"function": activation}))
            value = f"a{i}"
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    graph = Graph((GraphInput("input", (None, 1, None, None)),), tuple(ops), (value,), shapes)
    return Network("", "cnn", graph, (activation,), "by hand")


def channels_last(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(out, in, h, w) -> (h, w, in, out), (out, in) -> (in, out)."""
    moved = {n: t.transpose(2, 3, 1, 0) if t.ndim == 4 else t.T for n, t in tensors.items() if n.endswith("weight")}
    return {name: np.ascontiguousarray(moved.get(name, t)) for name, t in tensors.items()}


def moved_on_orbit(
    tensors: Mapping[str, np.ndarray], group: str, seed: int, largest: float = 1e3
) -> dict[str, np.ndarray]:
    """A random member of the orbit, stored in float32: permutations, and scales in [1/largest, largest] or signs."""
    rng = np.random.default_rng(seed)
    result = {name: t.astype(np.float64) for name, t in tensors.items()}
    for below, above in pairwise(LAYERS):
        n = len(result[f"{below}.bias"])
        factor = (
            rng.choice([-1.0, 1.0], n) if group == "sign" else np.exp(rng.uniform(-np.log(largest), np.log(largest), n))
        )
        order = rng.permutation(n)
        for role in ("weight", "bias"):
            t = result[f"{below}.{role}"]
            result[f"{below}.{role}"] = (t * factor.reshape(-1, *[1] * (t.ndim - 1)))[order]
        t = result[f"{above}.weight"]
        result[f"{above}.weight"] = (t / factor.reshape(1, -1, *[1] * (t.ndim - 2)))[:, order]
    return {name: t.astype(np.float32) for name, t in result.items()}


def example(activation: str) -> dict[str, np.ndarray]:
    """Tensors of the shipped example."""
    from safetensors.numpy import load_file

    return dict(load_file(EXAMPLES / f"cifar10gs-{activation}.safetensors"))
