"""checkpoint: containers in, the same containers out, hub. Knows files and arrays; no network, no graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint, Hints
from nfn_cli.checkpoint.reading import load

if TYPE_CHECKING:
    from nfn_cli.checkpoint.atomic_write import atomic_output
    from nfn_cli.checkpoint.writing import Saved, check_outputs, save

__all__ = ["Checkpoint", "Hints", "Saved", "atomic_output", "check_finite", "check_outputs", "load", "save"]


def __getattr__(name: str) -> Any:
    """Writers are loaded by those who write: a report starts faster without them."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'nfn_cli.checkpoint' has no attribute {name!r}")
    return getattr(
        import_module(f"nfn_cli.checkpoint.{'atomic_write' if name == 'atomic_output' else 'writing'}"), name
    )
