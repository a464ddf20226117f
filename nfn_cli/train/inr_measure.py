"""train/inr_measure.py: scores of a classifier of INRs. Knows numbers only."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.predictors.inr_predictor import read_outputs

Array = np.ndarray[Any, np.dtype[Any]]
_BINS = 15
_PSNR = (0.0, 22.0, 25.0, 30.0, 35.0, 40.0, 50.0, np.inf)


def fitted_temperature(logits: Tensor, label: Tensor, classes: int) -> float:
    """The temperature at which the mean −log probability of the right class is least, within [0.2, 5]."""
    grid = torch.exp(torch.linspace(-1.6, 1.6, 161, dtype=torch.float64)).tolist()
    losses = [_nll(read_outputs(logits, classes, each)[0], label) for each in grid]
    return float(grid[int(np.argmin(losses))])


def scores_of(probabilities: Tensor, label: Tensor) -> dict[str, float]:
    """Accuracy, calibration error, mean −log probability, count."""
    sure, found = probabilities.max(1)
    right = (found == label).double()
    return {
        "accuracy": float(right.mean()),
        "ece": calibration_error(sure, right),
        "nll": _nll(probabilities, label),
        "count": len(label),
    }


def calibration_error(sure: Tensor, right: Tensor) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017)."""
    bins = (sure * _BINS).long().clamp(0, _BINS - 1)
    gaps = [
        abs(float(sure[bins == b].mean() - right[bins == b].mean())) * int((bins == b).sum())
        for b in range(_BINS)
        if bool((bins == b).any())
    ]
    return float(sum(gaps) / len(sure))


def alarms(odds: Tensor, least: float) -> float:
    """Share of networks that are not in distribution."""
    return float((odds < least).double().mean())


def parts_of(probabilities: Tensor, label: Tensor, facts: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Accuracy of all, by PSNR, by value range and by ω."""
    right = (probabilities.argmax(1) == label).numpy()
    psnr, low, high, omega = (facts[name] for name in ("psnr", "low", "high", "config.omega"))
    kept = {"all": np.ones(len(right), bool)}
    for least, most in itertools.pairwise(_PSNR):
        name = f"PSNR under {most:g} dB" if least == 0 else f"PSNR {least:g} dB and more"
        kept[name if least == 0 or most == np.inf else f"PSNR {least:g} to {most:g} dB"] = (psnr >= least) & (
            psnr < most
        )
    unit, signed = (low == 0) & (high == 1), (low == -1) & (high == 1)
    kept |= {
        "values in [0, 1]": unit,
        "values in [−1, 1]": signed,
        "standardized values": ~unit & ~signed & ~np.isnan(low),
    }
    kept |= {"ω = 30": omega == 30, "another ω": (omega != 30) & ~np.isnan(omega)}
    return {
        name: {"accuracy": float(right[keep].mean()), "count": int(keep.sum())}
        for name, keep in kept.items()
        if keep.any()
    }


def _nll(probabilities: Tensor, label: Tensor) -> float:
    return float(-probabilities.gather(1, label[:, None]).clamp(min=1e-12).log().mean())
