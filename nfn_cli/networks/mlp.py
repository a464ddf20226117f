"""networks/mlp.py: the plain multilayer perceptron behind pooled invariants. Knows torch only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn


def mlp(
    inputs: int,
    width: int,
    hidden: int,
    outputs: int,
    *,
    dropout: float = 0.0,
    activation: Callable[[], nn.Module] = nn.GELU,
) -> nn.Sequential:
    """(b, inputs) -> (b, outputs) through `hidden` layers of `width` units, dropout behind each while training."""
    sizes = [inputs, *[width] * hidden]
    blocks: list[nn.Module] = []
    for read, written in pairwise(sizes):
        blocks += [nn.Linear(read, written), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*blocks, nn.Linear(sizes[-1], outputs))
