"""networks/orbit_statistics.py: fixed invariants of a chain, in float64. Knows weight features and degrees; no file.

The chain comes in a form where only signs and permutations of units are left to move it: the balanced form for
positive scales, the weights as they are otherwise. Every number here is unchanged by permutations, and with
`entrywise=("magnitude",)` by signs: a sign matrix is orthogonal, so spectra do not see it, and path products from the
input to the output have trivial degree. Everything is continuous in the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from nfn_cli.networks.weight_features import WeightFeatures

_LEVELS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
# Far above float32 rounding of a balanced weight, so that a logarithm cannot blow rounding up to something visible.
_SOFTENING = 1e-3
_RELATIVE_SOFTENING = 1e-5
_MOST_VALUES = 16
# A linear layer after a flatten has one position per pixel; beyond this many, pairs of positions are too many to list.
_MOST_POSITIONS = 25

ENTRYWISE: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({"value": lambda x: x, "magnitude": torch.abs})


def orbit_statistics(chain: WeightFeatures, entrywise: tuple[str, ...]) -> Tensor:
    """(b, c_i, p, q), (b, 1, p) -> (b, number of statistics), in float64.

    Args:
        chain: raw weights (channels are kernel positions), balanced where positive scales act.
        entrywise: keys of ENTRYWISE: what is summed up over the entries of each tensor. "value" is for groups
            without signs.
    """
    chain = chain.map(lambda t: t.double())
    parts = [*_distributions(chain, entrywise), *_norms(chain), *_layer_spectra(chain), *_path_spectra(chain)]
    parts += [*_path_sums(chain), *_kernel_correlations(chain)]
    return torch.cat(parts, 1)


def _distributions(chain: WeightFeatures, entrywise: tuple[str, ...]) -> Iterator[Tensor]:
    """Mean, standard deviation and quantiles over all entries of each tensor."""
    for tensor in (*chain.weights, *chain.biases):
        for name in entrywise:
            entries = ENTRYWISE[name](tensor).flatten(1)
            yield entries.mean(1, keepdim=True)
            yield entries.std(1, correction=0, keepdim=True)
            yield _quantiles(entries)


def _quantiles(entries: Tensor) -> Tensor:
    """(b, n) -> (b, levels), between neighbours linearly. numpy sorts several times as fast as torch on a processor."""
    ordered = torch.from_numpy(np.sort(entries.numpy(), axis=1))
    rank = torch.tensor(_LEVELS, dtype=torch.float64) * (entries.shape[1] - 1)
    below, above = rank.floor().long(), rank.ceil().long()
    return torch.lerp(ordered[:, below], ordered[:, above], rank - below)


def _norms(chain: WeightFeatures) -> Iterator[Tensor]:
    """Log of the sorted norms of rows and columns; at most _MOST_VALUES evenly spaced ones."""
    for weight in chain.weights:
        for axes in ((1, 3), (1, 2)):
            norms = weight.square().sum(axes).sqrt().sort(1).values
            yield _soft_log(_thinned(norms))


def _layer_spectra(chain: WeightFeatures) -> Iterator[Tensor]:
    """Log singular values of each layer as (p, q·c) and as (q, p·c)."""
    for weight in chain.weights:
        yield _log_roots(torch.einsum("bcpq,bcrq->bpr", weight, weight))
        yield _log_roots(torch.einsum("bcpq,bcpr->bqr", weight, weight))


def _path_spectra(chain: WeightFeatures) -> Iterator[Tensor]:
    """Log singular values of the product of layers i..L over all kernel positions, for every start i.

    The Gram matrix of the product is built upwards, S -> Σ_c W_c S W_cᵀ, so that its size stays that of an axis.
    """
    for start in range(len(chain.weights) - 1):
        gram = torch.einsum("bcpq,bcrq->bpr", chain.weights[start], chain.weights[start])
        for weight in chain.weights[start + 1 :]:
            gram = torch.einsum("bcpq,bqs,bcrs->bpr", weight, gram, weight)
        yield _log_roots(gram)


def _path_sums(chain: WeightFeatures) -> Iterator[Tensor]:
    """Sorted path sums from each bias, and from the input's mean, to the outputs, kernels summed over positions."""
    summed = [weight.sum(1) for weight in chain.weights]
    starts = [(0, summed[0].mean(2))]
    starts += [(i, bias[:, 0]) for i, bias in enumerate(chain.biases)]
    for layer, vector in starts:
        for weight in summed[layer + 1 :]:
            vector = torch.einsum("bpq,bq->bp", weight, vector)
        # asinh: a logarithm for large sums of either sign, smooth at 0
        yield torch.asinh(_thinned(vector.sort(1).values))


def _kernel_correlations(chain: WeightFeatures) -> Iterator[Tensor]:
    """How alike the entries of a kernel are, position by position: smooth kernels are what training makes of noise.

    Σ_pq W_c[p, q] W_d[p, q] for positions c <= d: once over all units, relative to the total; once with every unit
    counted alike. Products of two entries of one unit pair have trivial degree under signs.
    """
    for weight in chain.weights:
        positions = weight.shape[1]
        if not 1 < positions <= _MOST_POSITIONS:
            continue
        first, second = torch.triu_indices(positions, positions)
        energy = weight.square().sum((1, 3), keepdim=True)
        level = energy.mean(2, keepdim=True)
        # softened: a unit that is zero up to rounding has no direction
        alike = weight / (energy + _RELATIVE_SOFTENING * level + _SOFTENING**4).sqrt()
        for entries, total in ((weight, level), (alike, torch.ones_like(level))):
            gram = torch.einsum("bcpq,bdpq->bcd", entries, entries) / weight.shape[2]
            yield gram[:, first, second] * positions / (total[:, :, 0, 0] + _SOFTENING**4)


def _log_roots(gram: Tensor) -> Tensor:
    """(b, n, n) positive semidefinite -> logs of the roots of its eigenvalues, ascending, the largest _MOST_VALUES.

    Softened relative to the mean eigenvalue: the root of an eigenvalue that is 0 up to rounding is anything up to
    1e-8, and its logarithm must not see that.
    """
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    mean = values.mean(1, keepdim=True)
    softened: Tensor = values[:, -_MOST_VALUES:] + _RELATIVE_SOFTENING * mean + _SOFTENING**4
    return softened.log() / 2


def _thinned(ascending: Tensor) -> Tensor:
    count = ascending.shape[1]
    if count <= _MOST_VALUES:
        return ascending
    return ascending[:, torch.linspace(0, count - 1, _MOST_VALUES).round().long()]


def _soft_log(values: Tensor) -> Tensor:
    return (values + _SOFTENING).log()
