"""train/contrast.py: networks that were never trained, made from a zoo's own. Knows weight features; no zoo, no card.

What the in-distribution test must reject: the same shapes with entries drawn anew, and trained networks whose entries
were shuffled within each tensor, which keeps every entrywise statistic.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from nfn_cli.networks.weight_features import WeightFeatures


def shuffled(features: WeightFeatures, seed: int) -> WeightFeatures:
    """Each tensor's entries in random order, per row of the batch."""
    draw = torch.Generator().manual_seed(seed)

    def shuffle(tensor: Tensor) -> Tensor:
        flat = tensor.flatten(1)
        order = torch.rand(flat.shape, generator=draw, dtype=torch.float64).argsort(1)
        return flat.gather(1, order).reshape(tensor.shape)

    return features.map(shuffle)


def reinitialised(features: WeightFeatures, seed: int) -> WeightFeatures:
    """Entries drawn anew by a random rule per row: uniform or normal, scaled by fan-in (He, Glorot, torch's default).

    Biases are zero, small normal, or torch's uniform default.
    """
    draw = torch.Generator().manual_seed(seed)
    count = len(features)
    rule = torch.randint(0, 4, (count,), generator=draw)
    bias_rule = torch.randint(0, 3, (count,), generator=draw)
    weights, biases = [], []
    for weight, bias in zip(features.weights, features.biases, strict=True):
        fan_in = weight.shape[1] * weight.shape[3]
        fan_out = weight.shape[1] * weight.shape[2]
        # standard deviations: torch's default (uniform ±1/√fan_in), He, Glorot, He with uniform entries
        deviations = torch.tensor(
            [1 / sqrt(3 * fan_in), sqrt(2 / fan_in), sqrt(2 / (fan_in + fan_out)), sqrt(2 / fan_in)]
        )
        normal = torch.randn(weight.shape, generator=draw)
        uniform = (torch.rand(weight.shape, generator=draw) * 2 - 1) * sqrt(3)
        is_uniform = ((rule == 0) | (rule == 3))[:, None, None, None]
        entries = torch.where(is_uniform, uniform, normal) * deviations[rule][:, None, None, None]
        weights.append(entries.to(weight.dtype))
        bound = (torch.rand(bias.shape, generator=draw) * 2 - 1) / sqrt(fan_in)
        small = torch.randn(bias.shape, generator=draw) * 0.05
        chosen = torch.stack([torch.zeros(bias.shape), small, bound])[bias_rule, torch.arange(count)]
        biases.append(chosen.to(bias.dtype))
    return WeightFeatures(tuple(weights), tuple(biases))
