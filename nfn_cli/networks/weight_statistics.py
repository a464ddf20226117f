"""networks/weight_statistics.py: raw statistics of each tensor (Unterthiner et al. 2020). Knows weight features; no group.

Invariant to permutations of units, and to nothing else: a scale or sign of a unit moves them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nfn_cli.networks.weight_features import WeightFeatures

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def weight_statistics(raw: WeightFeatures) -> Tensor:
    """(b, c_i, p, q), (b, 1, p) -> (b, 7 · tensors) float64: mean, variance, and the quantiles 0, 25, 50, 75, 100.

    Weights come first, then biases; kernel positions count as entries like all others.
    """
    return torch.cat([_of_tensor(tensor) for tensor in (*raw.weights, *raw.biases)], 1)


def statistics_count(tensors: int) -> int:
    """Number of statistics of a chain with this many tensors."""
    return tensors * (2 + len(QUANTILES))


def _of_tensor(tensor: Tensor) -> Tensor:
    entries = tensor.flatten(1).double()
    # numpy's quantile selects where torch's sorts, and has no limit on the length of a row
    quantiles = torch.from_numpy(np.quantile(entries.numpy(), QUANTILES, axis=1).T)
    return torch.cat([entries.mean(1, keepdim=True), entries.var(1, correction=0, keepdim=True), quantiles], 1)
