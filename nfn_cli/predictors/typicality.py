"""predictors/typicality.py: whether a network is inside what a predictor was trained for. Knows tensors; no file.

Two questions, both asked of invariants, so that the answer is the same for every member of an orbit. Distance: how far
are its statistics from those of the training networks (principal axes, Mahalanobis; the rest as one residual)?
Contrast: does a small network, trained to tell training networks from re-initialised and shuffled ones, take it for
one of the former? The second is needed because shuffling entries keeps their distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Distance:
    """Mahalanobis distance of statistics from the training networks.

    Attributes:
        mean, scale: (s,) of each statistic.
        axes: (k, s) principal axes of the standardized statistics.
        variances: (k,) along them; residual_variance: mean energy outside them.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor
    variances: Tensor
    residual_variance: Tensor

    def __call__(self, statistics: Tensor) -> Tensor:
        """(b, s) -> (b,): root mean square over the axes and the residual; about 1 for training networks."""
        centred = (statistics - self.mean) / self.scale
        along = centred @ self.axes.T
        outside = (centred - along @ self.axes).square().sum(1) / self.residual_variance
        total = (along.square() / self.variances).sum(1) + outside * len(self.axes)
        return (total / (2 * len(self.axes))).sqrt()


def fit_distance(statistics: Tensor, components: int = 32) -> Distance:
    """(n, s) statistics of training networks -> their distance function."""
    statistics = statistics.double()
    mean, scale = statistics.mean(0), statistics.std(0, correction=0).clamp(min=1e-6)
    centred = (statistics - mean) / scale
    components = min(components, *centred.shape)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:components]
    outside = (centred - (centred @ axes.T) @ axes).square().sum(1).mean().clamp(min=1e-9)
    variances = (values[:components].square() / len(centred)).clamp(min=1e-9)
    parts = (mean, scale, axes, variances, outside)
    return Distance(*(part.float().contiguous() for part in parts))


@dataclass(frozen=True)
class Typicality:
    """The two tests with their thresholds.

    Attributes:
        distance: see `Distance`; inside means at most `largest_distance`.
        contrast: network whose output is the log-odds of being a trained one; inside means at least `least_log_odds`.
    """

    distance: Distance
    contrast: nn.Module
    largest_distance: float
    least_log_odds: float

    @torch.no_grad()
    def inside(self, statistics: Tensor, prepared: Any) -> Tensor:
        """Statistics (n, s) and what the contrast reads, both in float64 -> (n,) bool."""
        odds = torch.as_tensor(self.contrast.forward_prepared(prepared))[:, 0]  # type: ignore[operator]
        return (self.distance(statistics) <= self.largest_distance) & (odds >= self.least_log_odds)
