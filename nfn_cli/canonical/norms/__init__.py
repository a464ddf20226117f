"""canonical/norms: how large the weights are: as they stand, and in ways that no member of the orbit can change."""

from nfn_cli.canonical.norms.report import NetworkNorms, weight_norms

__all__ = ["NetworkNorms", "weight_norms"]
