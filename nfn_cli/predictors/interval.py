"""predictors/interval.py: the prediction interval, and its calibration on held-out runs. Knows numbers only.

Conformal: residuals of predictions for runs that the predicting network never saw, divided by a spread that depends on
the predicted level (networks near chance are easy, good ones less so); the interval is the prediction plus and minus
the spread times the quantile of those ratios (Lei et al. 2018, "Distribution-free predictive inference").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A calibrated interval.

    Attributes:
        level: share of new runs that it should cover.
        knots: predicted levels, ascending.
        spreads: typical absolute residual at each knot, interpolated between them and constant outside.
        quantile: of |residual| / spread.
        count: residuals it was calibrated on.
    """

    level: float
    knots: tuple[float, ...]
    spreads: tuple[float, ...]
    quantile: float
    count: int

    def around(self, predicted: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(n,) -> low and high (n,), inside [0, 1]."""
        half = self.quantile * np.interp(predicted, self.knots, self.spreads)
        return np.clip(predicted - half, 0.0, 1.0), np.clip(predicted + half, 0.0, 1.0)


def calibrate(
    predicted: FloatArray,
    actual: FloatArray,
    level: float = 0.9,
    bins: int = 6,
    groups: np.ndarray[Any, np.dtype[Any]] | None = None,
) -> Interval:
    """Held-out predictions (n,) and actual values (n,) -> the interval with this coverage.

    Args:
        bins: equally filled bins of predicted level, each giving one knot.
        groups: (n,) labels; the interval then covers its share of every group, not only of all together.
    """
    residuals = np.abs(actual - predicted)
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    knots = [float(predicted[part].mean()) for part in parts]
    # A fifth of the overall mean is mixed in, so that a bin of very easy networks does not promise the impossible.
    spreads = [float(0.8 * residuals[part].mean() + 0.2 * residuals.mean()) for part in parts]
    ratios = residuals / np.maximum(np.interp(predicted, knots, spreads), 1e-9)
    labels = np.zeros(len(ratios)) if groups is None else groups
    quantile = max(_quantile(ratios[labels == label], level) for label in np.unique(labels))
    return Interval(level, tuple(knots), tuple(spreads), quantile, len(ratios))


def _quantile(ratios: FloatArray, level: float) -> float:
    """Of a finite sample, such that a further one is below it with probability `level` at least."""
    rank = min(ceil((len(ratios) + 1) * level), len(ratios))
    return float(np.sort(ratios)[rank - 1])
