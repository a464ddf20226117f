"""train/metrics.py: how good predictions are. Knows arrays of numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Kendall's τ (tau-b), coefficient of determination and mean absolute error, with the number of rows."""

    kendall_tau: float
    r2: float
    mae: float
    count: int


def scores(predicted: FloatArray, actual: FloatArray) -> Scores:
    """(n,), (n,) -> scores of the predictions; NaN where they are not defined (n < 2, or no spread)."""
    from scipy.stats import kendalltau

    residual = predicted - actual
    spread = float(np.square(actual - actual.mean()).sum())
    return Scores(
        kendall_tau=float(kendalltau(predicted, actual).statistic),
        r2=1.0 - float(np.square(residual).sum()) / spread if spread else float("nan"),
        mae=float(np.abs(residual).mean()),
        count=len(actual),
    )


def coverage(low: FloatArray, high: FloatArray, actual: FloatArray) -> float:
    """Share of rows whose actual value lies in [low, high]."""
    return float(((low <= actual) & (actual <= high)).mean())
