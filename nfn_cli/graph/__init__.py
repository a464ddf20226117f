"""graph: the op vocabulary, builders, the slow reference evaluator. Knows checkpoints; no symmetry."""

from __future__ import annotations

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.zoo_row import SMALL_CNN
from nfn_cli.graph.from_names import NameOptions, networks_from_names
from nfn_cli.graph.graph_file import GRAPH_KEY
from nfn_cli.graph.model import Graph, GraphInput, Network, Op

__all__ = ["Graph", "GraphInput", "NameOptions", "Network", "Op", "find_networks", "networks_from_names"]


def find_networks(checkpoint: Checkpoint, options: NameOptions | None = None) -> tuple[Network, ...]:
    """The networks of a checkpoint: from the graph where the file has one (its own, or in metadata), else from names.

    Raises:
        Refused: as the front ends do.
    """
    if checkpoint.container == "onnx":
        from nfn_cli.graph.from_onnx import network_from_onnx

        return network_from_onnx(checkpoint)
    if checkpoint.container == "pt2":
        from nfn_cli.graph.from_pt2 import network_from_pt2

        return (network_from_pt2(checkpoint),)
    if checkpoint.container == "torchscript":
        from nfn_cli.graph.from_torchscript import network_from_torchscript

        return (network_from_torchscript(checkpoint),)
    options = options or NameOptions()
    if checkpoint.container.startswith("torch-objects") and options == NameOptions():
        from nfn_cli.graph.from_modules import network_from_modules

        sequential = network_from_modules(checkpoint)
        if sequential is not None:
            return (sequential,)
    if checkpoint.container.startswith("keras"):
        from nfn_cli.graph.from_keras import check_chain, network_from_keras

        keras = network_from_keras(checkpoint) if options == NameOptions() else None
        if keras is not None:
            return (keras,)
        check_chain(checkpoint)
    if options.arch is None and GRAPH_KEY in checkpoint.metadata:
        from nfn_cli.graph.stored_graph import network_with_stored_graph

        return (network_with_stored_graph(checkpoint),)
    if checkpoint.hints.architecture == SMALL_CNN and options == NameOptions(activation=options.activation):
        from nfn_cli.graph.small_cnn import network_of_zoo_row

        return (network_of_zoo_row(checkpoint, options.activation),)
    from nfn_cli.graph.architectures import from_architecture, identified

    if options.arch is not None:
        return (from_architecture(checkpoint, options.arch, options.trust_code),)
    if options == NameOptions():
        known = identified(checkpoint)
        if known is not None:
            return (known,)
    return networks_from_names(checkpoint, options)
