"""canonical/reduction: exact reduction: units that are dead, constant or repeated are removed, and the function stays."""

from nfn_cli.canonical.reduction.certificate import RULES, Removed
from nfn_cli.canonical.reduction.reduce import Reduced, ReduceOptions, reduce

__all__ = ["RULES", "ReduceOptions", "Reduced", "Removed", "reduce"]
