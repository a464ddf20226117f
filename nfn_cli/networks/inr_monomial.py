"""networks/inr_monomial.py: Monomial-NFN for networks of sines, and a permutation-only baseline. Torch; no graph, no file.

A sign of a unit, and a half turn of its phase, both change the sign of its outgoing weights. So what is read of a unit is made
to change by the product of both: sin(b + w·x) at points x, w·cos b, sin b. Then D∞ acts on all features of a unit as one sign,
and that is the group that Monomial-NFN has for sin: its equivariant layers, and invariants behind them.

Those layers treat the units of two layers apart, as no linear map that commutes with signs mixes W² with W¹. They meet in path
products W³·W²·W¹ alone, which are those of a linear network. So products are bent where they pass units: s becomes
sin(s + b), which changes by sign and half turn where s changes by the sign. A path from the wave at x is then the value that
the network has at x, but for what equivariant layers have changed on the way.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nfn_cli.networks.degrees import tensors_of
from nfn_cli.networks.equivariant_linear import EquivariantLinear
from nfn_cli.networks.input_scale import divided_by, tensor_levels
from nfn_cli.networks.inr_pixels import standardized
from nfn_cli.networks.inr_sines import Sines
from nfn_cli.networks.mlp import mlp
from nfn_cli.networks.monomial_nfn import Prepared
from nfn_cli.networks.nonlinearity import NONLINEARITIES
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

_GROUP = "sign"
_SLOWLY = 0.1  # a channel of many waves moves far where each of its numbers moves a little
_FREQUENCY = 30.0  # usual size of ω times a weight of the first layer


class SineMonomialNfn(nn.Module):
    """Networks of sines of one shape -> `outputs` numbers, blind to D∞ ≀ S_n.

    Args:
        widths: inputs, hidden widths, outputs.
        channels: after each equivariant layer but the last.
        side: waves are read at side² points of [−1, 1]²; even.
        head_width, head_depth, dropout: of the MLP at the end.
        bent: whether path products are bent at units; if not, s becomes sin b + s·cos b, the network is taken for linear.
    """

    grid: Tensor
    input_scale: Tensor

    def __init__(
        self,
        widths: tuple[int, ...],
        outputs: int,
        channels: tuple[int, ...] = (16,),
        side: int = 14,
        head_width: int = 256,
        head_depth: int = 2,
        dropout: float = 0.1,
        bent: bool = True,
    ) -> None:
        super().__init__()
        self.bent = bent
        along = (torch.arange(side) + 0.5) * (2 / side) - 1
        self.register_buffer("grid", torch.cartesian_prod(along, along).T, persistent=False)
        waves = side * side // widths[0]
        shape = ChainShape(widths, (1 + waves, *(1,) * (len(widths) - 2)))
        names = tensors_of(shape.depth)
        read = {n: shape.positions[n.layer - 1] if n.kind == "weight" else 1 for n in names}
        self.layers = nn.ModuleList(
            EquivariantLinear(shape, _GROUP, before, after)
            for before, after in pairwise([read, *(dict.fromkeys(names, count) for count in channels), read])
        )
        with torch.no_grad():  # features begin as they are
            for parameter in self.layers[-1].parameters():
                parameter.zero_()
        self.register_buffer("input_scale", torch.ones(2 * shape.depth))
        paths = widths[-1] * ((1 + waves) * widths[0] + shape.depth - 1)
        self.norm = nn.BatchNorm1d(paths)
        self.head = mlp(paths, head_width, head_depth, outputs, dropout=dropout)

    def forward_prepared(self, sines: Sines) -> Tensor:
        """(b, outputs)."""
        return torch.as_tensor(self.head(self.norm(self.invariants(sines))))

    def invariants(self, sines: Sines) -> Tensor:
        """(b, paths): path products, standardized as values of an image are."""
        features = self.equivariant(as_one_sign(sines, self.grid))
        return standardized(self._paths(features, sines.biases)).flatten(1)

    def equivariant(self, features: WeightFeatures) -> WeightFeatures:
        """Features, and what the equivariant layers add to them."""
        added = divided_by(features, self.input_scale)
        for number, layer in enumerate(self.layers):
            added = layer(added if number == 0 else added.map(NONLINEARITIES[_GROUP]))
        return WeightFeatures(
            tuple(one + _SLOWLY * more for one, more in zip(features.weights, added.weights, strict=True)),
            tuple(one + _SLOWLY * more for one, more in zip(features.biases, added.biases, strict=True)),
        )

    def fit_normalization(self, sines: Sines) -> None:
        """One scale for each tensor."""
        self.input_scale.copy_(tensor_levels(as_one_sign(sines, self.grid)))

    def _paths(self, features: WeightFeatures, phases: tuple[Tensor, ...]) -> Tensor:
        """(b, outputs, paths): from each channel and input, and from each hidden layer's bias."""
        vectors = features.weights[0].transpose(1, 2).flatten(2)
        for layer, weight in enumerate(features.weights[1:]):
            if layer:
                phase = phases[layer][..., None]
                vectors = torch.sin(vectors + phase) if self.bent else torch.sin(phase) + torch.cos(phase) * vectors
            vectors = weight[:, 0] @ torch.cat([vectors, features.biases[layer].transpose(1, 2)], 2)
        return vectors


class SinePermutationNfn(nn.Module):
    """The baseline: weights as they are, HNP layers (Zhou et al. 2023): blind to permutations of units alone."""

    def __init__(self, widths: tuple[int, ...], outputs: int, **settings: Any) -> None:
        super().__init__()
        config = PermutationNfnConfig(group="permutation", **settings)
        self.nfn = PermutationNfn(ChainShape(widths, (1,) * (len(widths) - 1)), config, outputs)

    @property
    def head(self) -> nn.Module:
        """The MLP at the end."""
        return self.nfn.head

    def forward_prepared(self, sines: Sines) -> Tensor:
        """(b, outputs)."""
        return self.nfn.forward_prepared(_prepared(as_features(sines)))

    def fit_normalization(self, sines: Sines) -> None:
        """One scale for each tensor."""
        self.nfn.fit_normalization(_prepared(as_features(sines)))


def as_features(sines: Sines) -> WeightFeatures:
    """One channel: weights and biases as they are, the last layer's of one size whatever the range of pixel values."""
    weights = [weight[:, None] for weight in sines.weights]
    size = weights[-1].square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt()
    weights[-1] = weights[-1] / size
    biases = [bias[:, None] for bias in sines.biases]
    biases[-1] = biases[-1] / size[..., 0]
    return WeightFeatures(tuple(weights), tuple(biases))


def as_one_sign(sines: Sines, grid: Tensor) -> WeightFeatures:
    """Features of which a unit's change of sign, and its half turn, both change the sign; rows of W², … by the first alone.

    Channels of W¹ are w·cos b and then waves in pairs, as if each pair were the two frequencies of a unit.
    """
    plain = as_features(sines)
    first, phase = sines.weights[0], sines.biases[0][..., None]
    waves = torch.sin(first @ grid + phase)
    waves = waves.reshape(*waves.shape[:2], -1, first.shape[2]).transpose(1, 2)
    own = (first * torch.cos(phase) / _FREQUENCY)[:, None]
    biases = tuple(torch.sin(bias) for bias in plain.biases[:-1])
    return WeightFeatures((torch.cat([own, waves], 1), *plain.weights[1:]), (*biases, plain.biases[-1]))


def _prepared(features: WeightFeatures) -> Prepared:
    return Prepared(features, features.biases[0].new_zeros(len(features), 0))
