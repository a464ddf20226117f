"""checkpoint: containers in, the same containers out, hub. Knows files and arrays; no network, no graph."""

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint, Hints
from nfn_cli.checkpoint.reading import load
from nfn_cli.checkpoint.writing import Saved, check_outputs, save

__all__ = ["Checkpoint", "Hints", "Saved", "atomic_output", "check_finite", "check_outputs", "load", "save"]
