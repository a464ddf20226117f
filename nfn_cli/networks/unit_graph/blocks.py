"""unit_graph/blocks.py: a weight tensor as blocks of edges, its kernel as a few smooth coefficients. Knows torch; no op."""

from __future__ import annotations

from functools import lru_cache
from math import isqrt, pi, prod

import torch
from torch import Tensor

from nfn_cli.networks.unit_graph.plan import Bias, Weights

COEFFICIENTS = 9
# rank of the kernel -> coefficients kept along each of its axes
_KEPT = {1: 9, 2: 3, 3: 2}


def edge_blocks(weights: Weights, tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """(b, *shape) -> (b, groups, p, q, positions), and the shape of the kernel whose entries the positions are."""
    if weights.in_axis < 0:
        return tensor.reshape(len(tensor), -1, 1, 1, 1), ()
    moved = tensor.movedim((weights.out_axis + 1, weights.in_axis + 1), (1, 2))
    b, out, into = moved.shape[:3]
    kernel = tuple(moved.shape[3:])
    if weights.positions > 1:
        split = (into // weights.positions, weights.positions)
        if weights.channel_outer:
            moved = moved.reshape(b, 1, out, *split)
        else:
            moved = moved.reshape(b, 1, out, *split[::-1]).transpose(3, 4)
        side = isqrt(weights.positions)
        return moved, (side, side) if side * side == weights.positions else (weights.positions,)
    return moved.reshape(b, weights.groups, out // weights.groups, into, prod(kernel)), kernel


def smooth_coefficients(blocks: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """(…, positions) -> (…, COEFFICIENTS): the lowest of the kernel's orthonormal cosine transform, missing ones 0.

    A 3×3 kernel is kept whole; a 1×1 kernel and a linear layer have the first coefficient only.
    """
    return blocks @ cosine_basis(kernel).to(blocks.dtype)


@lru_cache(maxsize=64)
def cosine_basis(kernel: tuple[int, ...]) -> Tensor:
    """(positions, COEFFICIENTS) float64."""
    kept = _KEPT.get(len(kernel), 1)
    basis = torch.ones(1, 1, dtype=torch.float64)
    for length in kernel:
        axis = torch.zeros(length, kept, dtype=torch.float64)
        n = torch.arange(length, dtype=torch.float64)
        for k in range(min(kept, length)):
            axis[:, k] = torch.cos(pi * (n + 0.5) * k / length) * (1.0 if k == 0 else 2.0) ** 0.5 / length**0.5
        basis = torch.kron(basis, axis)
    out = torch.zeros(len(basis), COEFFICIENTS, dtype=torch.float64)
    out[:, : basis.shape[1]] = basis[:, :COEFFICIENTS]
    return out


def bias_features(bias: Bias | None, tensors: dict[str, Tensor], rows: int, count: int) -> Tensor:
    """(b, n, 2): what flips with the slot, and what nothing moves.

    A phase count adds π/ω to a bias: sin 2ωb flips with the sign and does not see the count, cos 2ωb sees neither.
    """
    out = torch.zeros(rows, count, 2, dtype=torch.float64)
    if bias is None:
        return out
    value = tensors[bias.name].reshape(rows, -1)
    phase = torch.from_numpy(bias.phase)
    shifted = phase > 0
    angle = 2 * pi * value / torch.where(shifted, phase, torch.ones_like(phase))
    odd = torch.where(shifted, angle.sin(), value)
    out[:, :, 0] = odd * torch.from_numpy(bias.odd)
    out[:, :, 1] = torch.where(shifted, angle.cos(), torch.zeros_like(angle))
    return out
