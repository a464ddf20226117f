"""graph/from_onnx: an ONNX graph in our own vocabulary.

The walk (`translate`) asks one translation for each node kind (`layers`, `windows`, `norms`, `arithmetic`, `pointwise`,
`movement`, `resize`), and does arithmetic on shapes while it goes (`folding`). Afterwards pieces that exporters take apart
are put together (`rewriting`), and nodes that are not understood but stand before the first or behind the last weight
are cut off (`ends`).
"""

from __future__ import annotations

from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.onnx_graph import OnnxGraph
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.errors import Refused
from nfn_cli.graph.from_onnx.ends import without_ends
from nfn_cli.graph.from_onnx.rewriting import rewritten
from nfn_cli.graph.from_onnx.sizes import size_choices
from nfn_cli.graph.from_onnx.translate import Misfit, Translation, translate
from nfn_cli.graph.model import Graph, Network
from nfn_cli.printable import printable

__all__ = ["network_from_onnx", "network_of"]


def network_from_onnx(checkpoint: Checkpoint) -> tuple[Network, ...]:
    """The one network of an ONNX model.

    Raises:
        Refused: no weights that are understood, quantized, shapes that disagree, a graph that is not one.
    """
    return (network_of(origin_of(checkpoint).content, checkpoint, "the ONNX graph"),)


def network_of(source: OnnxGraph, checkpoint: Checkpoint, told: str) -> Network:
    """The network of a graph whose weights are tensors of the checkpoint.

    Args:
        told: where the graph is from, as source of the activations.

    Raises:
        Refused: as `network_from_onnx`.
    """
    found, sizes = _fitting(source, checkpoint)
    graph, notes = without_ends(
        Graph(
            found.inputs,
            rewritten(found.ops, found.outputs, found.shapes, checkpoint.tensors),
            found.outputs,
            {},
        )
    )
    if not any("weight" in op.parameters or op.kind == "parameter" for op in graph.ops):
        raise Refused("no weights that are understood", code="not-a-network")
    shapes = {name: tuple(checkpoint.tensors[name].shape) for op in graph.ops for name in op.parameters.values()}
    graph = Graph(graph.inputs, graph.ops, graph.outputs, shapes)
    functions = tuple(dict.fromkeys(str(op.attributes["function"]) for op in graph.ops if op.kind == "pointwise"))
    family = "cnn" if any(op.kind == "conv" for op in graph.ops) else "mlp"
    return Network("", family, graph, functions, told if functions else "", (*_chosen(sizes), *notes))


def _chosen(sizes: dict[tuple[str, int], int]) -> tuple[str, ...]:
    """What a reader should know of lengths that the file leaves open; the batch goes without saying."""
    open_axes = [f"axis {axis} of {printable(name, 40)} as {n}" for (name, axis), n in sizes.items() if axis]
    return (f"sizes that the file leaves open: read with {', '.join(open_axes)}",) if open_axes else ()


def _fitting(source: OnnxGraph, checkpoint: Checkpoint) -> tuple[Translation, dict[tuple[str, int], int]]:
    """The graph at the first choice of open sizes that fits it."""
    misfit = ""
    for sizes in size_choices(source, checkpoint.tensors):
        try:
            return _settled(source, dict(checkpoint.tensors), sizes), sizes
        except Misfit as error:
            misfit = misfit or error.where
    raise Refused("shapes disagree", where=printable(misfit), fix="export the model again", code="shape-mismatch")


def _settled(source: OnnxGraph, tensors: dict[str, Array], sizes: dict[tuple[str, int], int]) -> Translation:
    """A tensor that is read as numbers stays what it is, wherever else it is used."""
    frozen: frozenset[str] = frozenset()
    while True:
        found = translate(source, tensors, sizes, frozen)
        clash = (found.read & found.used) - frozen
        if not clash:
            return found
        frozen |= clash
