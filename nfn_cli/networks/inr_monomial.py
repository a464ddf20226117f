"""networks/inr_monomial.py: Monomial-NFN for networks of sines, and a permutation-only baseline. Torch; no graph, no file.

Half turns of the phase are divided out before: of the two characters of a unit, sign and half turn, outgoing weights
times cos(b), or times sin(b) and a weight of the unit, and sin(2b), keep the first and lose the second. All are continuous
where b leaves the fundamental interval. What is left moves by signs and permutations, the group that Monomial-NFN has for sin.

Frequencies are read as waves: beside w itself, channels of the first layer are cos(b)·sin(b + w·x) at points x on a grid, of
the same character.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nfn_cli.networks.inr_sines import Sines
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

_HARMONICS = 2  # cos b, cos 3b
_SIDE = 10  # points of the grid along an axis; even
_FREQUENCY = 30.0  # usual size of ω times a weight of the first layer


class SineMonomialNfn(nn.Module):
    """Networks of sines of one shape -> `outputs` numbers, blind to D∞ ≀ S_n.

    Args:
        widths: inputs, hidden widths, outputs.
        settings: of `MonomialNfnConfig`, the group and fixed statistics left out.
    """

    def __init__(self, widths: tuple[int, ...], outputs: int, **settings: Any) -> None:
        super().__init__()
        shape = ChainShape(
            widths, (1 + _SIDE**2 // widths[0], _HARMONICS + widths[0], *(_HARMONICS,) * (len(widths) - 3))
        )
        config = MonomialNfnConfig("sign", statistics=False, **settings)
        self.nfn = MonomialNfn(shape, config, outputs)

    @property
    def head(self) -> nn.Module:
        """The MLP at the end."""
        return self.nfn.head

    def forward_prepared(self, sines: Sines) -> Tensor:
        """(b, outputs)."""
        return self.nfn.forward_prepared(_prepared(without_half_turns(sines)))

    def fit_normalization(self, sines: Sines) -> None:
        """One scale for each tensor."""
        self.nfn.fit_normalization(_prepared(without_half_turns(sines)))


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


def without_half_turns(sines: Sines) -> WeightFeatures:
    """Features that change with a unit as its sign does, and not with half turns of its phase."""
    plain = as_features(sines)
    weights, biases = [torch.cat([plain.weights[0] / _FREQUENCY, _waves(sines)], 1)], []
    for layer, (weight, bias) in enumerate(zip(plain.weights[1:], plain.biases, strict=False)):
        factors = [torch.cos((2 * k + 1) * bias) for k in range(_HARMONICS)]
        if layer == 0:  # what is even in the unit's sign, made odd by its own frequencies
            first = sines.weights[0].transpose(1, 2)
            factors.append(torch.sin(bias) * first / (1 + first.square().mean((1, 2), keepdim=True).sqrt()))
        weights.append(weight * torch.cat(factors, 1)[:, :, None])
        biases.append(torch.sin(2 * bias))
    return WeightFeatures(tuple(weights), (*biases, plain.biases[-1]))


def _waves(sines: Sines) -> Tensor:
    """(b, points / 2, p, 2): as many channels as points, in pairs, as if each pair were the two frequencies of a unit."""
    first, bias = sines.weights[0], sines.biases[0][..., None]
    along = torch.linspace(-0.9, 0.9, _SIDE, dtype=first.dtype)
    points = torch.cartesian_prod(along, along)
    waves = torch.cos(bias) * torch.sin(first @ points.T + bias)
    return waves.reshape(*waves.shape[:2], -1, 2).transpose(1, 2)


def _prepared(features: WeightFeatures) -> Prepared:
    return Prepared(features, features.biases[0].new_zeros(len(features), 0))
