"""Networks that were never trained: shuffling keeps every tensor's entries, re-initialising keeps only shapes."""

from __future__ import annotations

import torch

from nfn_cli.train.contrast import reinitialised, shuffled
from tests.networks.slow_group import Chain, random_features

RAW = random_features(Chain((2, 5, 3), (4, 1)), 0)


def test_shuffling_keeps_the_entries_of_each_tensor_and_moves_them() -> None:
    moved = shuffled(RAW, 1)
    for before, after in zip((*RAW.weights, *RAW.biases), (*moved.weights, *moved.biases), strict=True):
        assert torch.equal(before.flatten(1).sort(1).values, after.flatten(1).sort(1).values)
    assert not torch.equal(RAW.weights[0], moved.weights[0])


def test_reinitialising_takes_nothing_from_the_network() -> None:
    doubled = RAW.map(lambda t: 2 * t)
    for a, b in zip(reinitialised(RAW, 3).weights, reinitialised(doubled, 3).weights, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(reinitialised(RAW, 3).weights[0], reinitialised(RAW, 4).weights[0])
