"""graph: the op vocabulary, builders, the slow reference evaluator. Knows checkpoints; no symmetry."""

from nfn_cli.graph.from_names import NameOptions, networks_from_names
from nfn_cli.graph.model import Graph, GraphInput, Network, Op

__all__ = ["Graph", "GraphInput", "NameOptions", "Network", "Op", "networks_from_names"]
