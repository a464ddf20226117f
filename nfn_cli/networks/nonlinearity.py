"""networks/nonlinearity.py: what may stand between and after equivariant layers, per group. Knows torch; no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

# σ(c x) = c σ(x) for c > 0; σ(−x) = −σ(x); anything pointwise commutes with permutations.
NONLINEARITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "positive_scale": torch.relu,
        "sign": torch.tanh,
        "permutation": torch.nn.functional.gelu,
        "neuron_permutation": torch.nn.functional.gelu,
    }
)


def direction(features: Tensor) -> Tensor:
    """(b, c, …) -> the channel vector over its norm; exactly invariant to positive scales, 0 stays 0.

    No small number is added to the norm: x / (‖x‖ + ε) is invariant only while x is far above ε.
    """
    largest = features.abs().amax(1, keepdim=True)
    level = torch.where(largest > 0, largest, torch.ones_like(largest))
    shrunk = features / level.detach()
    square = shrunk.square().sum(1, keepdim=True)
    return shrunk / torch.where(square > 0, square, torch.ones_like(square)).sqrt()


# Divides out the degree of each entry: (b, c, …) -> invariant of the diagonal part of the group, same shape.
DEGREE_DIVISIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"positive_scale": direction, "sign": torch.abs, "permutation": lambda x: x}
)
