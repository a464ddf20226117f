"""symmetry/rules: one op, one short function: types of the inputs in, type of the output and equations out."""

from __future__ import annotations

from nfn_cli.symmetry.rules import arithmetic, layers, shapes  # noqa: F401 — they fill the table
from nfn_cli.symmetry.rules.registry import Entry, Plain, Value, apply_rule, settled

__all__ = ["Entry", "Plain", "Value", "apply_rule", "settled"]
