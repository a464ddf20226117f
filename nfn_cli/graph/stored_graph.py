"""graph/stored_graph.py: a graph kept as text beside the tensors it is about. Reads no file; trusts no text.

Whoever stores a network whose graph is known (rows of a zoo, files cut out of one) puts the graph into the metadata of
the container under one key, so that nothing has to be guessed from names again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.errors import Refused
from nfn_cli.graph.graph_file import GRAPH_KEY, graph_from_json, graph_to_json
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.stored_graph_check import check_graph_values
from nfn_cli.printable import printable

_LONGEST = 16_000_000  # characters


def graph_to_text(graph: Graph) -> str:
    """The same graph gives the same text."""
    return json.dumps(graph_to_json(graph), ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def graph_from_text(text: str, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """The graph, checked against the shapes of the tensors that are really there.

    Raises:
        Refused: not a graph, ops out of order, attributes of the wrong kind, or not about these tensors.
    """
    if len(text) > _LONGEST:
        raise Refused(f"the stored graph has {len(text)} characters", where=GRAPH_KEY, code="bad-graph")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("the stored graph is not JSON", where=GRAPH_KEY, code="bad-graph") from None
    check_graph_values(values, GRAPH_KEY)
    graph = graph_from_json(values)
    for name, shape in graph.parameter_shapes.items():
        if shapes.get(name) != shape:
            found = f"is {list(shapes[name])}" if name in shapes else "is missing"
            raise Refused(
                f"the stored graph needs {printable(name)} of shape {list(shape)}, which {found}",
                where=GRAPH_KEY,
                code="bad-graph",
            )
    return graph


def network_with_stored_graph(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint whose metadata holds its graph.

    Raises:
        Refused: as `graph_from_text`.
    """
    origin = origin_of(checkpoint)  # the graph speaks of the tensors as the file calls them
    bare = {origin.stored(name): name for name in checkpoint.tensors}
    shapes = {stored: tuple(checkpoint.tensors[name].shape) for stored, name in bare.items()}
    return network_of(_renamed(graph_from_text(checkpoint.metadata[GRAPH_KEY], shapes), bare))


def network_of(graph: Graph) -> Network:
    """A network that is all of its checkpoint; its activations are those of the graph."""
    functions = tuple(dict.fromkeys(functions_of(graph)))
    family = "cnn" if any(op.kind == "conv" for op in graph.ops) else "mlp"
    return Network("", family, graph, functions, "the stored graph" if functions else "")


def functions_of(graph: Graph) -> list[str]:
    """Names of the pointwise functions, op by op."""
    return [str(op.attributes["function"]) for op in graph.ops if op.kind == "pointwise"]


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same graph of tensors by other names."""
    ops = tuple(replace(op, parameters={r: names[n] for r, n in op.parameters.items()}) for op in graph.ops)
    return replace(graph, ops=ops, parameter_shapes={names[n]: s for n, s in graph.parameter_shapes.items()})
