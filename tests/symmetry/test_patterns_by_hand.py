"""Exchanges of units written out by hand: one that keeps the function, and one nearly like it that does not."""

from __future__ import annotations

import numpy as np
import pytest

from .networks import Tensors
from .patterns import made
from .test_patterns import change

# (tensor, axis) -> pairs of slots that change places
Exchange = dict[tuple[str, int], list[tuple[int, int]]]

WHOLE = list(zip(range(4), range(4, 8), strict=True))  # slots 0 … 3 with slots 4 … 7

# pattern -> (keeps the function, does not); hidden width 4
EXCHANGES: dict[str, tuple[Exchange, Exchange]] = {
    # a channel with all four of its subpixels; one subpixel alone
    "pixel_shuffle": (
        {("stem.weight", 0): WHOLE, ("stem.bias", 0): WHOLE, ("fc.weight", 1): [(0, 1)]},
        {("stem.weight", 0): WHOLE[:1], ("stem.bias", 0): WHOLE[:1], ("fc.weight", 1): [(0, 1)]},
    ),
    # both groups on all sides; inputs alone
    "transposed_groups": (
        {
            ("stem.weight", 0): WHOLE,
            ("stem.bias", 0): WHOLE,
            ("up.weight", 0): WHOLE,
            ("up.bias", 0): WHOLE,
            ("fc.weight", 1): WHOLE,
        },
        {("stem.weight", 0): WHOLE, ("stem.bias", 0): WHOLE, ("up.weight", 0): WHOLE},
    ),
    # two outputs of one channel; outputs of two channels
    "depthwise_multiplier": (
        {("depthwise.weight", 0): [(0, 1)], ("depthwise.bias", 0): [(0, 1)], ("fc.weight", 1): [(0, 1)]},
        {("depthwise.weight", 0): [(0, 2)], ("depthwise.bias", 0): [(0, 2)], ("fc.weight", 1): [(0, 2)]},
    ),
    # a channel on its way through both convolutions; forgotten where the gate is read
    "squeeze_excite": (
        {
            **{(f"stem.{role}", 0): [(0, 1)] for role in ("weight", "bias")},
            **{(f"excite.{role}", 0): [(0, 1)] for role in ("weight", "bias")},
            ("squeeze.weight", 1): [(0, 1)],
            ("fc.weight", 1): [(0, 1)],
        },
        {
            **{(f"stem.{role}", 0): [(0, 1)] for role in ("weight", "bias")},
            ("squeeze.weight", 1): [(0, 1)],
            ("fc.weight", 1): [(0, 1)],
        },
    ),
}


def exchanged(tensors: Tensors, exchange: Exchange) -> Tensors:
    out = {name: array.copy() for name, array in tensors.items()}
    for (name, axis), pairs in exchange.items():
        order = np.arange(out[name].shape[axis])
        for left, right in pairs:
            order[[left, right]] = order[[right, left]]
        out[name] = out[name].take(order, axis)
    return out


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_keeps_the_function_and_its_neighbour_does_not(name: str) -> None:
    network, tensors = made(name)
    right, wrong = EXCHANGES[name]
    assert change(network, tensors, exchanged(tensors, right)) < 1e-12
    assert change(network, tensors, exchanged(tensors, wrong)) > 1e-3


def test_no_order_of_channels_passes_a_convolution_along_them() -> None:
    """What squeeze-and-excitation allows, efficient channel attention does not."""
    network, tensors = made("efficient_channel_attention")
    moved = exchanged(tensors, {("stem.weight", 0): [(0, 2)], ("stem.bias", 0): [(0, 2)], ("fc.weight", 1): [(0, 2)]})
    assert change(network, tensors, moved) > 1e-3
