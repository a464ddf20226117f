"""symmetry/extras/summary.py: what a report says about the extras of one network: plain values, totals, what was refuted."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from nfn_cli.symmetry.extras.extra import Extra
from nfn_cli.symmetry.extras.proof import Proof


@dataclass(frozen=True)
class ExtrasReport:
    """Extras of one network.

    Attributes:
        found: those that are counted.
        refuted: those whose random member changed the outputs: errors of this tool, never counted.
        relative_change: largest under random members of all that are counted; None where the network cannot be run.
        statistics: entries of running means and variances. The extras move them, so they count as parameters here.
        effective_parameters: parameters and statistics less all continuous directions, monomial and extra.
    """

    found: tuple[Extra, ...]
    refuted: tuple[Extra, ...]
    relative_change: float | None
    statistics: int
    effective_parameters: int

    @property
    def dimension(self) -> int:
        return sum(extra.dimension for extra in self.found)

    @property
    def log10_order(self) -> float:
        return sum(extra.log10_order for extra in self.found)

    @property
    def passed(self) -> bool | None:
        return None if self.relative_change is None else not self.refuted

    def as_json(self) -> dict[str, Any]:
        change = self.relative_change
        return {
            "dimension": self.dimension,
            "log10_order": self.log10_order,
            "statistics": self.statistics,
            "effective_parameters": self.effective_parameters,
            "check": {
                "relative_change": change if change is not None and isfinite(change) else None,
                "passed": self.passed,
            },
            "found": [_extra_json(extra) for extra in self.found],
            "refuted": [_extra_json(extra) for extra in self.refuted],
        }


def _extra_json(extra: Extra) -> dict[str, Any]:
    return {
        "kind": extra.kind,
        "tensors": list(extra.tensors),
        "dimension": extra.dimension,
        "log10_order": extra.log10_order,
        "explanation": extra.explanation,
    }


def extras_report(proof: Proof, trained: int, statistics: int, monomial: int) -> ExtrasReport:
    """Args:
    trained: trained numbers of the network.
    statistics: entries of its running means and variances.
    monomial: continuous dimension of its monomial group.
    """
    dimension = sum(extra.dimension for extra in proof.kept)
    effective = trained + statistics - monomial - dimension
    return ExtrasReport(proof.kept, proof.refuted, proof.relative_change, statistics, effective)
