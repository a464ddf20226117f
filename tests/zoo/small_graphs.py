"""Graphs of small networks and stacks of random tensors for them."""

from __future__ import annotations

import numpy as np

from nfn_cli.graph.model import Graph, GraphInput, Op


def mlp_graph(widths: tuple[int, ...] = (3, 5, 2), activation: str = "relu") -> Graph:
    """A chain of linear layers `fc0`, `fc1`, …"""
    ops, value, shapes = [], "x", {}
    for i in range(len(widths) - 1):
        roles = {"weight": f"fc{i}.weight", "bias": f"fc{i}.bias"}
        shapes |= {roles["weight"]: (widths[i + 1], widths[i]), roles["bias"]: (widths[i + 1],)}
        ops.append(Op("linear", (value,), f"z{i}", roles, {"out_axis": 0, "in_axis": 1}))
        value = f"z{i}"
        if i < len(widths) - 2:
            ops.append(Op("pointwise", (value,), f"a{i}", {}, {"function": activation}))
            value = f"a{i}"
    return Graph((GraphInput("x", (None, widths[0])),), tuple(ops), (value,), shapes)


def random_stack(graph: Graph, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Name -> (rows, *shape), float32."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((rows, *shape)).astype(np.float32) for name, shape in graph.parameter_shapes.items()
    }
