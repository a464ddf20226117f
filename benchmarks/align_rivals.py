"""What benchmarks/align.py compares with: the weight matching of Git Re-Basin written out, and the package rebasin. Torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

Tensors = Mapping[str, np.ndarray]
Axes = Sequence[tuple[str, int]]  # (tensor, axis) pairs that one permutation moves


def git_rebasin(ours: Tensors, theirs: Tensors, axes: Sequence[Axes], seed: int = 0) -> dict[str, np.ndarray]:
    """Our tensors permuted towards theirs: algorithm 1 of Ainsworth et al. 2023 (arXiv 2209.04836), as its authors run it.

    Coordinate descent from the identity: the sets in random order, each by an exact assignment on the products of raw weights,
    until a pass over all of them gains nothing.

    Args:
        axes: for each permutation what it moves.
    """
    generator = np.random.default_rng(seed)
    permutations = [np.arange(ours[pairs[0][0]].shape[pairs[0][1]]) for pairs in axes]

    def moved(name: str, but: int | None = None) -> np.ndarray:
        array = ours[name]
        for number, pairs in enumerate(axes):
            for tensor, axis in pairs:
                if tensor == name and number != but:
                    array = array.take(permutations[number], axis=axis)
        return array

    for _ in range(100):
        progress = False
        for number in generator.permutation(len(axes)):
            n = len(permutations[number])
            scores = np.zeros((n, n))
            for tensor, axis in axes[number]:
                there = np.moveaxis(theirs[tensor], axis, 0).reshape(n, -1)
                here = np.moveaxis(moved(tensor, number), axis, 0).reshape(n, -1)
                scores += there @ here.T
            _, found = linear_sum_assignment(scores, maximize=True)
            before, after = (scores[np.arange(n), p].sum() for p in (permutations[number], found))
            progress |= bool(after > before + 1e-12)
            permutations[number] = found
        if not progress:
            break
    return {name: np.ascontiguousarray(moved(name)) for name in ours}


class Rebasin:
    """The package rebasin, from a folder where it and what it needs is installed."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        from rebasin import PermutationCoordinateDescent

        self.descent = PermutationCoordinateDescent

    def aligned(
        self, ours: nn.Module, theirs: nn.Module, example: torch.Tensor, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """State of our module after it was permuted, in place, towards theirs."""
        torch.manual_seed(seed)
        self.descent(theirs, ours, example).rebasin()
        return {name: tensor.numpy() for name, tensor in ours.state_dict().items()}
