"""unit_graph/: one model for networks of any graph: balanced form, messages along the graph of units, invariants of layers."""

from nfn_cli.networks.unit_graph.encoding import UnitGraphBatch, UnitGraphGroup, encode, encode_network, joined
from nfn_cli.networks.unit_graph.model import StatisticSizes, UnitGraphConfig, UnitGraphModel, statistic_sizes

__all__ = [
    "StatisticSizes",
    "UnitGraphBatch",
    "UnitGraphConfig",
    "UnitGraphGroup",
    "UnitGraphModel",
    "encode",
    "encode_network",
    "joined",
    "statistic_sizes",
]
