"""networks/stat_net.py: StatNet, an MLP on raw weight statistics (Unterthiner et al. 2020). No file.

The baseline of the papers on neural functional networks: blind to permutations of units, not to scales or signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfn_cli.networks.mlp import mlp
from nfn_cli.networks.monomial_nfn import Prepared
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.networks.weight_statistics import statistics_count, weight_statistics

_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class StatNetConfig:
    """Everything that makes the architecture, beside the chain's shape.

    Attributes:
        head_width, head_depth: width and number of hidden layers; the defaults are those of Zhou et al. 2023.
        dropout: behind each hidden layer, while training.
    """

    head_width: int = 1000
    head_depth: int = 2
    dropout: float = 0.0


def prepare(config: StatNetConfig, raw: WeightFeatures) -> Prepared:
    """Raw chains -> their statistics, in float64; the chains themselves stay beside them, unread."""
    return Prepared(raw, weight_statistics(raw))


class StatNet(nn.Module):
    """Chain -> `outputs` numbers, by its weight statistics alone.

    Call with raw weights in any dtype, or `forward_prepared` with what `prepare` gives.
    """

    statistics_mean: Tensor
    statistics_scale: Tensor

    def __init__(self, shape: ChainShape, config: StatNetConfig, outputs: int = 1) -> None:
        super().__init__()
        self.shape = shape
        self.config = config
        count = statistics_count(2 * shape.depth)
        self.register_buffer("statistics_mean", torch.zeros(count))
        self.register_buffer("statistics_scale", torch.ones(count))
        self.head = mlp(
            count, config.head_width, config.head_depth, outputs, dropout=config.dropout, activation=nn.ReLU
        )

    def forward(self, raw: WeightFeatures) -> Tensor:
        """Raw chains -> (b, outputs)."""
        return self.forward_prepared(prepare(self.config, raw).to(self.statistics_mean.dtype))

    def forward_prepared(self, prepared: Prepared) -> Tensor:
        """(b, outputs) from what `prepare` gives, in the dtype of the parameters."""
        return torch.as_tensor(self.head((prepared.statistics - self.statistics_mean) / self.statistics_scale))

    @torch.no_grad()
    def fit_normalization(self, prepared: Prepared) -> None:
        """Sets mean and spread of each statistic from training data."""
        statistics = prepared.statistics.double()
        spread = statistics.std(0, correction=0)
        self.statistics_mean.copy_(statistics.mean(0))
        self.statistics_scale.copy_(torch.where(spread > _LEAST_SPREAD, spread, torch.ones_like(spread)))
