"""Weights that are almost those of another network, but not related to it: what a comparison must not take for the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..symmetry.networks import Tensors


def one_weight_changed(tensors: Tensors, seed: int, by: float = 0.01) -> Tensors:
    """One entry of one weight, a batch norm's statistics left out, changed by 1%."""
    generator = np.random.default_rng(seed)
    names = [n for n in sorted(tensors) if tensors[n].ndim > 1]
    name = names[generator.integers(len(names))]
    changed = tensors[name].copy()
    changed.reshape(-1)[generator.integers(changed.size)] *= 1 + by
    return {**tensors, name: changed}


def one_pair_swapped(tensors: Tensors, seed: int) -> Tensors:
    """Two rows of a hidden layer's weight change places, nothing else does."""
    generator = np.random.default_rng(seed)
    names = [n for n in sorted(tensors) if tensors[n].ndim > 1 and len(tensors[n]) > 1]
    name = names[generator.integers(len(names))]
    p, q = generator.choice(len(tensors[name]), 2, replace=False)
    order = np.arange(len(tensors[name]))
    order[[p, q]] = q, p
    return {**tensors, name: tensors[name][order]}


def near_misses(tensors: Tensors, seeds: int) -> Iterator[Tensors]:
    for seed, make in itertools.product(range(seeds), (one_weight_changed, one_pair_swapped)):
        yield make(tensors, seed)
