"""canonical/quantization_answer.py: the whole quantization report as one value, and as JSON. Runs nothing; no torch, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nfn_cli.canonical.quantization import WeightQuality
from nfn_cli.canonical.quantization_report import FORMS, NetworkQuality

SCHEMA = "nfn.quantization-report/1"


@dataclass(frozen=True)
class Answers:
    """Answers of one set of weights, beside those of the file as it is.

    Attributes:
        output_change: √(Σ|Δy|² / Σ|y|²) over all outputs and inputs.
        agreement: on how many inputs the largest entry of the first output is the same; None where it holds no classes.
        accuracy: of the first output's largest entry; None without labels.
    """

    output_change: float
    agreement: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Effect:
    """What rounding does to one network.

    Attributes:
        inputs: how many were run.
        accuracy: of the file as it is, in floating point; None without labels.
        forms: for each form the answers of its rounded weights.
    """

    inputs: int
    accuracy: float | None
    forms: Mapping[str, Answers]


@dataclass(frozen=True)
class QuantizationReport:
    """What integer weights cost a checkpoint.

    Attributes:
        bits: of a weight.
        networks: quality of the weights of each network.
        effects: for each network what rounding does to its answers; None where it was not run.
        not_run: for each network why it was not run, though there was data.
        notes: what the forms could not do.
    """

    bits: int
    networks: tuple[NetworkQuality, ...]
    effects: tuple[Effect | None, ...]
    not_run: tuple[str | None, ...]
    notes: tuple[str, ...]

    def as_json(self, path: str) -> dict[str, Any]:
        """Plain values under the keys of the schema."""
        parts = zip(self.networks, self.effects, self.not_run, strict=True)
        return {
            "schema": SCHEMA,
            "path": path,
            "bits": self.bits,
            "forms": list(FORMS),
            "networks": [
                {
                    "name": network.name,
                    "weights": [
                        {
                            "tensor": weight.tensor,
                            "forms": {form: _quality(found) for form, found in by_form.items()},
                        }
                        for weight, by_form in network.weights
                    ],
                    "effect": None if effect is None else _effect(effect),
                    "not_run": not_run,
                }
                for network, effect, not_run in parts
            ],
            "notes": list(self.notes),
        }


def _quality(found: WeightQuality) -> dict[str, Any]:
    use = found.range_use
    return {
        "snr_db": _number(found.snr_db),
        "snr_db_per_channel": _number(found.snr_db_per_channel),
        "mean_range_use": float(use.mean()) if len(use) else 0.0,
        "least_range_use": float(use.min(initial=1.0)),
        "channel_range_use": _short(use),
        "channel_snr_db": _short(found.channel_snr_db),
    }


def _number(value: float) -> float | None:
    """None where nothing is lost (an infinite ratio, or a weight of zeros)."""
    return float(value) if np.isfinite(value) else None


def _short(values: Any) -> list[float | None]:
    return [_number(float(f"{value:.4g}")) for value in values]


def _effect(effect: Effect) -> dict[str, Any]:
    forms: Mapping[str, Any] = {name: asdict(answers) for name, answers in effect.forms.items()}
    return {"inputs": effect.inputs, "accuracy": effect.accuracy, "forms": forms}
