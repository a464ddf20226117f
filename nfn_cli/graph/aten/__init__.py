"""graph/aten: ATen operations in our own vocabulary: one op, one short function. Knows no program, no container, no torch."""

from __future__ import annotations

from nfn_cli.graph.aten import arithmetic, layers, normalization, shapes  # noqa: F401 — they fill the table
from nfn_cli.graph.aten.capture import Capture, Parameter, Value
from nfn_cli.graph.aten.registry import translated

__all__ = ["Capture", "Parameter", "Value", "translated"]
