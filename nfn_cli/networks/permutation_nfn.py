"""networks/permutation_nfn.py: permutation equivariant functionals, HNP and NP (Zhou et al. 2023, arXiv 2302.14040).

HNP (group "permutation") leaves the units of input and output where they are; NP (group "neuron_permutation") permutes
them, too, unless they carry an encoding of their place. Both are blind to permutations and to nothing else. No file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from nfn_cli.networks.degrees import TensorName, axes_of, tensors_of
from nfn_cli.networks.equivariant_linear import equivariant_stack
from nfn_cli.networks.input_scale import divided_by, tensor_levels
from nfn_cli.networks.mlp import mlp
from nfn_cli.networks.monomial_nfn import Prepared
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

PERMUTATION_GROUPS = ("permutation", "neuron_permutation")


@dataclass(frozen=True, slots=True)
class PermutationNfnConfig:
    """Everything that makes the architecture, beside the chain's shape.

    Attributes:
        group: "permutation" for HNP, "neuron_permutation" for NP.
        channels: channels after each equivariant layer.
        per_position: whether a weight has that many channels per kernel position, as in the paper.
        end_encoding: NP only: a learned number per channel and unit of the input and output is added before each layer, and
            the pool keeps these units apart. Such a network is blind to hidden permutations only, as HNP is, with
            fewer parameters.
        head_width, head_depth: the MLP behind the pool.
        dropout: in the MLP, while training.
    """

    group: str = "permutation"
    channels: tuple[int, ...] = (16, 16, 5)
    per_position: bool = True
    end_encoding: bool = False
    head_width: int = 1000
    head_depth: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.group not in PERMUTATION_GROUPS:
            raise ValueError(f"group {self.group!r} is none of {sorted(PERMUTATION_GROUPS)}")
        if self.end_encoding and self.group == "permutation":
            raise ValueError("an encoding of the ends is for NP layers; HNP layers know the ends apart already")
        if not self.channels:
            raise ValueError("no equivariant layer")

    @property
    def pool_group(self) -> str:
        """The group whose moving axes are averaged by the pool."""
        return "permutation" if self.end_encoding else self.group


def prepare(config: PermutationNfnConfig, raw: WeightFeatures) -> Prepared:
    """Raw chains as they are, in float64."""
    features = raw.map(lambda t: t.double())
    return Prepared(features, features.biases[0].new_zeros(len(features), 0))


class PermutationNfn(nn.Module):
    """Chain -> `outputs` numbers, blind to permutations of its units.

    Call with raw weights in any dtype, or `forward_prepared` with what `prepare` gives.
    """

    input_scale: Tensor

    def __init__(self, shape: ChainShape, config: PermutationNfnConfig, outputs: int = 1) -> None:
        super().__init__()
        self.shape = shape
        self.config = config
        layers = list(equivariant_stack(shape, config.group, config.channels, config.per_position))
        encodings = [EndEncoding(shape, layer.channels_in) for layer in layers] if config.end_encoding else []
        self.layers, self.encodings = nn.ModuleList(layers), nn.ModuleList(encodings)
        axes = {name: axes_of(name, shape.depth, config.pool_group) for name in tensors_of(shape.depth)}
        self._moving = [[2 + number for number, axis in enumerate(a) if axis.moves] for a in axes.values()]
        kept = {name: prod(shape.widths[axis.units] for axis in a if not axis.moves) for name, a in axes.items()}
        pooled = sum(layers[-1].channels_out[name] * count for name, count in kept.items())
        self.register_buffer("input_scale", torch.ones(2 * shape.depth))
        self.head = mlp(
            pooled, config.head_width, config.head_depth, outputs, dropout=config.dropout, activation=nn.ReLU
        )

    def forward(self, raw: WeightFeatures) -> Tensor:
        """Raw chains -> (b, outputs)."""
        return self.forward_prepared(prepare(self.config, raw).to(self.input_scale.dtype))

    def forward_prepared(self, prepared: Prepared) -> Tensor:
        """(b, outputs) from what `prepare` gives, in the dtype of the parameters."""
        return torch.as_tensor(self.head(self.pooled(self.equivariant(prepared.features))))

    def equivariant(self, features: WeightFeatures) -> WeightFeatures:
        """Features after all equivariant layers, relu behind each."""
        features = divided_by(features, self.input_scale)
        for number, layer in enumerate(self.layers):
            if self.config.end_encoding:
                features = self.encodings[number](features)
            features = layer(features).map(torch.relu)
        return features

    def pooled(self, features: WeightFeatures) -> Tensor:
        """Equivariant features -> (b, invariants): means over the axes that move, the others kept apart."""
        tensors = (*features.weights, *features.biases)
        means = (t.mean(axes) if axes else t for t, axes in zip(tensors, self._moving, strict=True))
        return torch.cat([mean.flatten(1) for mean in means], 1)

    @torch.no_grad()
    def fit_normalization(self, prepared: Prepared) -> None:
        """Sets one scale per tensor from training data."""
        self.input_scale.copy_(tensor_levels(prepared.features))


class EndEncoding(nn.Module):
    """Adds a learned number per channel and unit at the input and output, so that NP layers can tell these apart."""

    def __init__(self, shape: ChainShape, channels: Mapping[TensorName, int]) -> None:
        super().__init__()
        last = shape.depth
        self.incoming = nn.Parameter(torch.randn(channels[TensorName("weight", 1)], 1, shape.widths[0]))
        self.outgoing = nn.Parameter(torch.randn(channels[TensorName("weight", last)], shape.widths[-1], 1))
        self.bias = nn.Parameter(torch.randn(channels[TensorName("bias", last)], shape.widths[-1]))

    def forward(self, features: WeightFeatures) -> WeightFeatures:
        """Same shapes in and out."""
        weights, biases = list(features.weights), list(features.biases)
        weights[0] = weights[0] + self.incoming
        weights[-1] = weights[-1] + self.outgoing
        biases[-1] = biases[-1] + self.bias
        return WeightFeatures(tuple(weights), tuple(biases))
