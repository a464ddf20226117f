"""networks/inr_sines.py: a batch of networks of sines, phases in the fundamental interval. Torch; no graph, no file.

A unit sin(w·x + b) with outgoing weights v may become sin(w·x + b + kπ) with (−1)^k v, or sin(−w·x − b) with −v, and
units may change places: the group D∞ ≀ S_n of a layer. Here multiples of π are taken out of biases (parity into v), in
float64, so that phases of many turns cost no digits later. Signs and permutations are left to the networks that read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sines:
    """Networks of one shape: sin(weights[l] x + biases[l]) for every layer but the last, which is linear.

    Attributes:
        weights: (b, p, q) each, ω inside; biases: (b, p).
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def map(self, function: Callable[[Tensor], Tensor]) -> Sines:
        """`function` applied to every tensor."""
        return Sines(tuple(map(function, self.weights)), tuple(map(function, self.biases)))

    def __len__(self) -> int:
        return len(self.biases[0])

    def __getitem__(self, rows: slice | Tensor) -> Sines:
        return self.map(lambda tensor: tensor[rows])

    def to(self, dtype: torch.dtype) -> Sines:
        """The same in another dtype."""
        return self.map(lambda tensor: tensor.to(dtype))

    def read_at(self, matrix: Tensor, shift: Tensor) -> Sines:
        """Networks that answer at x what these answer at matrix · x + shift: (q, q) and (q,), or one for each network."""
        first = self.weights[0]
        bias = self.biases[0] + torch.einsum("bpq,...q->bp" if shift.ndim == 1 else "bpq,bq->bp", first, shift)
        return Sines((first @ matrix, *self.weights[1:]), (bias, *self.biases[1:]))

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, hidden widths, outputs."""
        return (int(self.weights[0].shape[2]), *(int(weight.shape[1]) for weight in self.weights))


def in_fundamental_interval(sines: Sines) -> Sines:
    """Hidden biases in [−π/2, π/2), the sign of each odd multiple of π in the outgoing weights; in float64."""
    sines = sines.to(torch.float64)
    weights, biases = list(sines.weights), list(sines.biases)
    for layer in range(len(weights) - 1):
        turns = torch.floor(biases[layer] / pi + 0.5)
        parity = 1 - 2 * torch.remainder(turns, 2)
        biases[layer] = biases[layer] - turns * pi
        weights[layer + 1] = weights[layer + 1] * parity[:, None, :]
    return Sines(tuple(weights), tuple(biases))


def joined_sines(parts: Sequence[Sines]) -> Sines:
    """Batches of one shape, one after another."""
    layers = range(len(parts[0].weights))
    return Sines(
        tuple(torch.cat([part.weights[i] for part in parts]) for i in layers),
        tuple(torch.cat([part.biases[i] for part in parts]) for i in layers),
    )
