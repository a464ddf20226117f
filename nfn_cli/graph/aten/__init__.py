"""graph/aten: ATen operations in our own vocabulary: one op, one short function. Knows no program, no container, no torch."""

from __future__ import annotations

from nfn_cli.graph.aten import arithmetic, layers, normalization, reductions, shapes  # noqa: F401 — they fill the table
from nfn_cli.graph.aten.program import Program, Tensor
from nfn_cli.graph.aten.registry import Result, Results

__all__ = ["Program", "Result", "Results", "Tensor"]
