"""unit_graph/model.py: the model: tokens of layers, their sequence seen from both ends, an MLP. Knows encoded batches; no file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from nfn_cli.networks.unit_graph.encoding import UnitGraphBatch, UnitGraphGroup
from nfn_cli.networks.unit_graph.message_passing import MessagePassing

# first, second, last but one, last, and the mean over all
_PLACES = 5


@dataclass(frozen=True, slots=True)
class UnitGraphConfig:
    """Everything that makes the architecture.

    Attributes:
        channels: of the state of a slot; 0 for no message passing (the head then sees statistics only).
        edge_functions: learned functions of an edge, as many even ones as odd ones.
        statistics: whether the head also sees the fixed invariants of the weights.
        fields: whether it sees, beside them, those of the mean fields.
        head_width, head_depth: the MLP behind the tokens.
        dropout: in the MLP, while training.
    """

    channels: int = 16
    edge_functions: int = 8
    statistics: bool = True
    fields: bool = False
    head_width: int = 128
    head_depth: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.channels and not self.statistics:
            raise ValueError("neither channels nor statistics: the head would see nothing")
        if self.fields and not self.statistics:
            raise ValueError("fields come beside statistics, not without them")


@dataclass(frozen=True, slots=True)
class StatisticSizes:
    """Numbers of statistics of a layer and of a network, of their weights and of their mean fields."""

    layer: int
    network: int
    layer_fields: int
    network_fields: int


class UnitGraphModel(nn.Module):
    """Networks of any graphs -> `outputs` numbers each, blind to the monomial group of each of them.

    Args:
        sizes: as `statistic_sizes` of a batch gives them.
    """

    layer_mean: Tensor
    layer_scale: Tensor
    network_mean: Tensor
    network_scale: Tensor
    edge_scale: Tensor
    bias_scale: Tensor

    def __init__(self, sizes: StatisticSizes, config: UnitGraphConfig = UnitGraphConfig(), outputs: int = 1) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        of_layer = sizes.layer + (sizes.layer_fields if config.fields else 0)
        of_network = sizes.network + (sizes.network_fields if config.fields else 0)
        for name, size in (("layer", of_layer), ("network", of_network)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        # One number for all edges and one for all biases tames the input; a constant does not change any symmetry.
        self.register_buffer("edge_scale", torch.ones(()))
        self.register_buffer("bias_scale", torch.ones(()))
        self.passing = MessagePassing(config.edge_functions, config.channels) if config.channels else None
        self.pooled_norm = nn.BatchNorm1d(3 * config.channels) if config.channels else nn.Identity()
        token = 3 * config.channels + (of_layer if config.statistics else 0)
        widths = [_PLACES * token + (of_network if config.statistics else 0), *[config.head_width] * config.head_depth]
        blocks: list[nn.Module] = []
        for read, written in pairwise(widths):
            blocks += [nn.Linear(read, written), nn.GELU(), nn.Dropout(config.dropout)]
        self.head = nn.Sequential(*blocks, nn.Linear(widths[-1], outputs))

    def forward_prepared(self, batch: UnitGraphBatch) -> Tensor:
        """(b, outputs) from what `encode` gives, in the dtype of the parameters, rows in the batch's order."""
        return torch.as_tensor(self.head(self.invariants(batch)))

    def forward(self, batch: UnitGraphBatch) -> Tensor:
        """The same as `forward_prepared`, in whatever dtype the batch has."""
        return self.forward_prepared(batch.to(self.layer_mean.dtype))

    def invariants(self, batch: UnitGraphBatch) -> Tensor:
        """(b, number of invariants): what the head reads."""
        pooled = self._pooled(batch)
        parts = []
        for number, group in enumerate(batch.groups):
            tokens = [pooled[number]] if pooled else []
            if self.config.statistics:
                tokens.append(_bounded(self._of_layers(group), self.layer_mean, self.layer_scale))
            row = _seen_from_both_ends(torch.cat(tokens, 2))
            if self.config.statistics:
                row = torch.cat([row, _bounded(self._of_network(group), self.network_mean, self.network_scale)], 1)
            parts.append(row)
        return torch.cat(parts)[torch.argsort(torch.cat(batch.rows))]

    def _of_layers(self, group: UnitGraphGroup) -> Tensor:
        """(b, layers, statistics) of those that the head sees."""
        both = (group.layer_statistics, group.layer_fields)
        return torch.cat(both, 2) if self.config.fields else both[0]

    def _of_network(self, group: UnitGraphGroup) -> Tensor:
        both = (group.network_statistics, group.network_fields)
        return torch.cat(both, 1) if self.config.fields else both[0]

    def _pooled(self, batch: UnitGraphBatch) -> list[Tensor]:
        """For each group (b, layers, 3 · channels), normalized over all tokens of the batch."""
        if self.passing is None:
            return []
        raw = [self.passing(self._tamed(group)) for group in batch.groups]
        normed = self.pooled_norm(torch.cat([each.flatten(0, 1) for each in raw]))
        parts = normed.split([each.shape[0] * each.shape[1] for each in raw])
        return [part.reshape(each.shape) for part, each in zip(parts, raw, strict=True)]

    def _tamed(self, group: UnitGraphGroup) -> UnitGraphGroup:
        return replace(
            group,
            edges=tuple(each / self.edge_scale for each in group.edges),
            biases=tuple(each / self.bias_scale for each in group.biases),
        )

    @torch.no_grad()
    def fit_normalization(self, batch: UnitGraphBatch) -> None:
        """Sets the constants that tame the input from training data."""
        layers = torch.cat([self._of_layers(group).double().flatten(0, 1) for group in batch.groups])
        networks = torch.cat([self._of_network(group).double() for group in batch.groups])
        for name, rows in (("layer", layers), ("network", networks)):
            spread = rows.std(0, correction=0)
            getattr(self, f"{name}_mean").copy_(rows.mean(0))
            getattr(self, f"{name}_scale").copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))
        for scale, tensors in (
            (self.edge_scale, [each for group in batch.groups for each in group.edges]),
            (self.bias_scale, [each for group in batch.groups for each in group.biases]),
        ):
            total, count = sum(float(t.double().square().sum()) for t in tensors), sum(t.numel() for t in tensors)
            scale.fill_((total / count) ** 0.5 if total else 1.0)


def statistic_sizes(batch: UnitGraphBatch) -> StatisticSizes:
    """Sizes for a model of networks encoded like these; they are the same for every graph."""
    first = batch.groups[0]
    return StatisticSizes(
        first.layer_statistics.shape[2],
        first.network_statistics.shape[1],
        first.layer_fields.shape[2],
        first.network_fields.shape[1],
    )


def _bounded(statistics: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Standardized and smoothly bounded: one statistic far outside the training range must not decide alone."""
    return 4.0 * torch.tanh((statistics - mean) / scale / 4.0)


def _seen_from_both_ends(tokens: Tensor) -> Tensor:
    """(b, layers, t) -> (b, _PLACES · t), for any number of layers."""
    last = tokens.shape[1] - 1
    places = (0, min(1, last), max(last - 1, 0), last)
    return torch.cat([*(tokens[:, place] for place in places), tokens.mean(1)], 1)
