"""networks/input_scale.py: one constant per tensor that brings weight features to unit size. Knows torch; no group.

A constant per tensor changes no degree, so dividing by it keeps whatever equivariance follows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nfn_cli.networks.weight_features import WeightFeatures


def tensor_levels(features: WeightFeatures) -> Tensor:
    """Root mean square of each tensor over the batch, weights first -> (tensors,) float64; 1 where all is 0."""
    tensors = (*features.weights, *features.biases)
    levels = torch.stack([t.double().square().mean().sqrt() for t in tensors])
    return torch.where(levels > 0, levels, torch.ones_like(levels))


def divided_by(features: WeightFeatures, levels: Tensor) -> WeightFeatures:
    """Each tensor over its level."""
    depth = len(features.weights)
    factors = levels.unbind()
    return WeightFeatures(
        tuple(w / s for w, s in zip(features.weights, factors[:depth], strict=True)),
        tuple(b / s for b, s in zip(features.biases, factors[depth:], strict=True)),
    )
