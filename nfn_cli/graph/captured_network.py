"""graph/captured_network.py: a captured graph as the network of its checkpoint: family, activations, a graph worth having."""

from __future__ import annotations

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network


def captured_network(graph: Graph, checkpoint: Checkpoint, source: str, notes: tuple[str, ...] = ()) -> Network:
    """Args:
        source: where the activations are known from.

    Raises:
        Refused: no tensor of the checkpoint is read, or no input is (code "not-a-network").
    """
    if not graph.parameter_shapes or not graph.inputs:
        raise Refused("the program computes nothing from an input and weights", code="not-a-network")
    functions = dict.fromkeys(op.attributes["function"] for op in graph.ops if op.kind == "pointwise")
    family = "cnn" if any(op.kind == "conv" for op in graph.ops) else "mlp"
    return Network("", family, graph, tuple(functions), source if functions else "", notes)
