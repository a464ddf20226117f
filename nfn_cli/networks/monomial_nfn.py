"""networks/monomial_nfn.py: Monomial-NFN (DESIGN 2.5): equivariant layers, an invariant head, an MLP. No file.

Two forms of exactness. `balanced=False` is the plain network: its head divides the degree out of each entry.
`balanced=True` first replaces a chain by the balanced member of its scale orbit; that is a map constant on the orbit,
hence whatever follows needs only commute with permutations, and the head keeps the magnitudes that a division would
have thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor, nn

from nfn_cli.networks.balance import balanced_chain
from nfn_cli.networks.equivariant_linear import equivariant_stack
from nfn_cli.networks.input_scale import divided_by, tensor_levels
from nfn_cli.networks.mlp import mlp
from nfn_cli.networks.nonlinearity import DEGREE_DIVISIONS, NONLINEARITIES
from nfn_cli.networks.orbit_statistics import orbit_statistics
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

# What may be summed up over entries: values of a sign-equivariant tensor are not invariant, magnitudes are.
_ENTRYWISE = {"positive_scale": ("value", "magnitude"), "sign": ("magnitude",), "permutation": ("value", "magnitude")}


@dataclass(frozen=True, slots=True)
class MonomialNfnConfig:
    """Everything that makes the architecture, beside the chain's shape.

    Attributes:
        group: a key of `degrees.GROUPS`.
        balanced: bring positive scales into the balanced form first.
        channels: channels after each equivariant layer; empty for none (the head then sees statistics only).
        per_position: whether a weight has that many channels per kernel position, so that features are kernels like the
            input, as in the papers; otherwise positions are channels of the input only.
        statistics: whether the head also sees `orbit_statistics` (needs `balanced` where scales act).
        head_width, head_depth: the MLP behind the pooled invariants.
        dropout: in the MLP, while training.
    """

    group: str
    balanced: bool = True
    channels: tuple[int, ...] = (16, 16)
    statistics: bool = True
    head_width: int = 128
    head_depth: int = 2
    dropout: float = 0.1
    per_position: bool = False

    def __post_init__(self) -> None:
        if self.group not in _ENTRYWISE:
            raise ValueError(f"group {self.group!r} is none of {sorted(_ENTRYWISE)}")
        if self.group == "positive_scale" and self.statistics and not self.balanced:
            raise ValueError("orbit statistics are invariant to scales only in the balanced form")
        if not self.channels and not self.statistics:
            raise ValueError("neither channels nor statistics: the head would see nothing")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the learned part reads: computed once per chain in float64, then in the learned part's dtype.

    Attributes:
        features: weights (b, c_i, p, q) and biases (b, 1, p), balanced where the configuration says so.
        statistics: (b, s); s = 0 without statistics.
    """

    features: WeightFeatures
    statistics: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Prepared:
        return Prepared(self.features[rows], self.statistics[rows])

    def __len__(self) -> int:
        return len(self.features)

    def to(self, dtype: torch.dtype) -> Prepared:
        """The same in another dtype."""
        return Prepared(self.features.map(lambda t: t.to(dtype)), self.statistics.to(dtype))


def prepare(config: MonomialNfnConfig, raw: WeightFeatures) -> Prepared:
    """Raw chains -> what the learned part reads, in float64. The only step that sees scales of units."""
    features = raw.map(lambda t: t.double())
    if config.group == "positive_scale" and config.balanced:
        features = balanced_chain(features)
    if config.statistics:
        return Prepared(features, orbit_statistics(features, _ENTRYWISE[config.group]))
    return Prepared(features, features.biases[0].new_zeros(len(features), 0))


class MonomialNfn(nn.Module):
    """Chain -> `outputs` numbers, blind to the monomial group of the chain.

    Call with raw weights in any dtype, or `forward_prepared` with what `prepare` gives.
    """

    input_scale: Tensor
    statistics_mean: Tensor
    statistics_scale: Tensor

    def __init__(self, shape: ChainShape, config: MonomialNfnConfig, outputs: int = 1) -> None:
        super().__init__()
        self.shape = shape
        self.config = config
        self.layers = nn.ModuleList(equivariant_stack(shape, config.group, config.channels, config.per_position))
        self.head_sizes = self._measure()
        pooled, statistics = self.head_sizes
        # One number per tensor tames the input; a constant does not change any degree.
        self.register_buffer("input_scale", torch.ones(2 * shape.depth))
        self.register_buffer("statistics_mean", torch.zeros(statistics))
        self.register_buffer("statistics_scale", torch.ones(statistics))
        self.pooled_norm = nn.BatchNorm1d(pooled) if pooled else nn.Identity()
        self.head = mlp(pooled + statistics, config.head_width, config.head_depth, outputs, dropout=config.dropout)

    def forward(self, raw: WeightFeatures) -> Tensor:
        """Raw chains -> (b, outputs)."""
        return self.forward_prepared(prepare(self.config, raw).to(self.input_scale.dtype))

    def forward_prepared(self, prepared: Prepared) -> Tensor:
        """(b, outputs) from what `prepare` gives, in the dtype of the parameters."""
        return torch.as_tensor(self.head(self.invariants(prepared)))

    def invariants(self, prepared: Prepared) -> Tensor:
        """(b, number of invariants): pooled learned ones, then standardized statistics."""
        parts = []
        if len(self.layers):
            parts.append(self.pooled_norm(self.pooled(self.equivariant(prepared.features))))
        if self.config.statistics:
            deviation = (prepared.statistics - self.statistics_mean) / self.statistics_scale
            # Smoothly bounded: one statistic far outside the training range must not decide alone.
            parts.append(4.0 * torch.tanh(deviation / 4.0))
        return torch.cat(parts, 1)

    def equivariant(self, features: WeightFeatures) -> WeightFeatures:
        """Features after all equivariant layers, in the same representation as the input."""
        return self.equivariant_layers(divided_by(features, self.input_scale))

    def equivariant_layers(self, features: WeightFeatures) -> WeightFeatures:
        """All equivariant layers, a nonlinearity between any two."""
        for number, layer in enumerate(self.layers):
            features = layer(features)
            if number + 1 < len(self.layers):
                features = features.map(NONLINEARITIES[self.config.group])
        return features

    def pooled(self, features: WeightFeatures) -> Tensor:
        """Equivariant features -> (b, invariants): entries with their degree divided out, pooled; and path products."""
        divide = self._degree_division()
        parts = []
        for tensor in (*features.weights, *features.biases):
            entries = divide(tensor).flatten(2)
            parts += [entries.mean(2), entries.square().mean(2).clamp(min=1e-12).sqrt(), entries.amax(2)]
        if self.config.per_position:
            features = _positions_averaged(features, self.shape)
        return torch.cat([*parts, *_path_products(features)], 1)

    @torch.no_grad()
    def fit_normalization(self, prepared: Prepared) -> None:
        """Sets the constants that tame the input from training data: one scale per tensor, mean and spread."""
        self.input_scale.copy_(tensor_levels(prepared.features))
        if self.config.statistics:
            spread = prepared.statistics.double().std(0, correction=0)
            self.statistics_mean.copy_(prepared.statistics.double().mean(0))
            self.statistics_scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def _degree_division(self) -> Callable[[Tensor], Tensor]:
        balanced = self.config.group == "positive_scale" and self.config.balanced
        return DEGREE_DIVISIONS["permutation" if balanced else self.config.group]

    def _measure(self) -> tuple[int, int]:
        """Numbers of pooled invariants and of statistics, counted on a chain of ones."""
        raw = chain_of_ones(self.shape)
        statistics = orbit_statistics(raw, _ENTRYWISE[self.config.group]).shape[1] if self.config.statistics else 0
        if not self.config.channels:
            return 0, statistics
        with torch.no_grad():
            return self.pooled(self.equivariant_layers(raw)).shape[1], statistics


def chain_of_ones(shape: ChainShape) -> WeightFeatures:
    """One raw chain of this shape, to count what a head will see."""
    widths = shape.widths
    return WeightFeatures(
        tuple(torch.ones(1, shape.positions[i], widths[i + 1], widths[i]) for i in range(shape.depth)),
        tuple(torch.ones(1, 1, widths[i + 1]) for i in range(shape.depth)),
    )


def _positions_averaged(features: WeightFeatures, shape: ChainShape) -> WeightFeatures:
    """(b, c · positions, p, q) -> (b, c, p, q): as many channels on weights as on biases."""
    weights = (
        w.reshape(len(w), -1, n, *w.shape[2:]).mean(2) for w, n in zip(features.weights, shape.positions, strict=True)
    )
    return WeightFeatures(tuple(weights), features.biases)


def _path_products(features: WeightFeatures) -> list[Tensor]:
    """Products of equivariant features along the chain that end where nothing moves: trivial degree (DESIGN 2.5).

    From the input and from every bias, channel by channel: v[r, p]·w[p, q]·… and v[r, p]·b[p]. The outermost axes are
    fixed, so their mean and root mean square over the outputs are invariant. asinh keeps a product of many layers tame.
    """
    starts = [(0, features.weights[0].mean(3)), *enumerate(features.biases)]
    parts = []
    for layer, vector in starts:
        for weight in features.weights[layer + 1 :]:
            vector = torch.einsum("bcpq,bcq->bcp", weight, vector) / sqrt(weight.shape[3])
        parts += [torch.asinh(vector.mean(2)), torch.asinh(vector.square().mean(2).clamp(min=1e-12).sqrt())]
    return parts


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(prod(p.shape) for p in model.parameters() if p.requires_grad)
