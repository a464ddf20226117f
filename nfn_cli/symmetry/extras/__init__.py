"""symmetry/extras: symmetries beyond the monomial group that a graph shows: found, counted, and each with a random member.

What is counted: directions in the space of all tensors of the network, batch norm's running statistics among them, since a
checkpoint holds them like any other number. All extras are counted next to the monomial group, never twice, at weights without
special relations; where a rule cannot tell it claims less. Not looked for: what single weights happen to allow (dead units,
low rank), GL(n) on a part of an axis, between attention's products, and of maps of one input that are concatenated.
"""

from nfn_cli.symmetry.extras import bounded, branches, mixing, reflections, statistics, translations  # noqa: F401 — fill the table
from nfn_cli.symmetry.extras.extra import Extra, Overlay, applied
from nfn_cli.symmetry.extras.proof import Proof, proved
from nfn_cli.symmetry.extras.registry import EXTRA_RULES, extra_rule, find_extras
from nfn_cli.symmetry.extras.summary import ExtrasReport, extras_report
from nfn_cli.symmetry.extras.survey import Survey, survey

__all__ = [
    "EXTRA_RULES",
    "Extra",
    "ExtrasReport",
    "Overlay",
    "Proof",
    "Survey",
    "applied",
    "extra_rule",
    "extras_report",
    "find_extras",
    "proved",
    "survey",
]
