"""networks/statistics_mlp.py: an MLP on fixed statistics of networks. Knows tensors; not what the statistics mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from nfn_cli.networks.mlp import mlp


class HasStatistics(Protocol):
    """A batch of networks of which numbers are known."""

    @property
    def statistics(self) -> Tensor:
        """(n, s)."""


@dataclass(frozen=True, slots=True)
class StatisticsMlpConfig:
    """Width and number of hidden layers; dropout while training."""

    width: int = 128
    depth: int = 2
    dropout: float = 0.2


class StatisticsMlp(nn.Module):
    """(n, size) statistics -> (n, outputs)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, config: StatisticsMlpConfig = StatisticsMlpConfig(), outputs: int = 1) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.head = mlp(size, config.width, config.depth, outputs, dropout=config.dropout)

    def forward_prepared(self, prepared: HasStatistics) -> Tensor:
        """(n, outputs), in the dtype of the parameters."""
        return self.forward(prepared.statistics)

    def forward(self, statistics: Tensor) -> Tensor:
        """(n, size) -> (n, outputs)."""
        deviation = (statistics - self.mean) / self.scale
        # Smoothly bounded: one statistic far outside the training range must not decide alone.
        return torch.as_tensor(self.head(4.0 * torch.tanh(deviation / 4.0)))

    @torch.no_grad()
    def fit_normalization(self, prepared: HasStatistics) -> None:
        """Centres and scales the statistics by those of the training networks."""
        statistics = prepared.statistics.double()
        self.mean.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0, correction=0).clamp(min=1e-4))
