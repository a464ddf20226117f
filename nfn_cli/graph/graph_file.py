"""graph/graph_file.py: a graph as plain JSON values and back. No file is opened."""

from __future__ import annotations

from typing import Any

from nfn_cli.graph.model import Graph, GraphInput, Op

GRAPH_KEY = "nfn.graph"  # under which metadata of a container hold a graph


def graph_to_json(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": [[entry.name, list(entry.shape)] for entry in graph.inputs],
        "ops": [[op.kind, list(op.inputs), op.output, dict(op.parameters), dict(op.attributes)] for op in graph.ops],
        "outputs": list(graph.outputs),
        "tensors": {name: list(shape) for name, shape in graph.parameter_shapes.items()},
    }


def graph_from_json(values: dict[str, Any]) -> Graph:
    return Graph(
        tuple(GraphInput(name, tuple(shape)) for name, shape in values["inputs"]),
        tuple(Op(kind, tuple(inputs), output, roles, more) for kind, inputs, output, roles, more in values["ops"]),
        tuple(values["outputs"]),
        {name: tuple(shape) for name, shape in values["tensors"].items()},
    )
