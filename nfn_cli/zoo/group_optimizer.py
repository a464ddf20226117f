"""zoo/group_optimizer.py: one update of many networks, each with its own optimizer. Knows tensors only (torch).

Adam, RMSprop (torch.optim's defaults) and SGD with momentum 0.9, as torch.optim has them, written as one formula with a
number for each network: m ← β₁m + κg, v ← β₂v + (1−β₂)g², θ ← θ − η/(1−β₁ᵗ) · m/(√(v/(1−β₂ᵗ)) + ε). RMSprop has β₁ = 0
and κ = 1, SGD κ = 1; only Adam has the corrections 1−βᵗ; SGD has no denominator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nfn_cli.zoo.population import Settings

_EPS = 1e-8
_FIRST = {"adam": 0.9, "sgd": 0.9, "rmsprop": 0.0}
_TAKEN = {"adam": 0.1, "sgd": 1.0, "rmsprop": 1.0}
_SECOND = {"adam": 0.999, "sgd": 0.0, "rmsprop": 0.99}


class GroupOptimizer:
    """State of the updates of m networks with p parameters each.

    Args:
        settings: of the m networks.
        decayed: (p,) 1 where L2 applies (weights), 0 elsewhere (biases, norms).
        like: (m, p) parameters, for dtype and device.
    """

    def __init__(self, settings: Settings, decayed: Tensor, like: Tensor) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]

        names = [str(name) for name in settings.optimizer]
        self.rate = column(settings.learning_rate.tolist())
        # the penalty is l2·Σw², as in Keras, so its gradient is 2·l2·w
        self.decay = column((2.0 * settings.l2reg).tolist()) * decayed.to(like)
        self.first, self.second = column([_FIRST[n] for n in names]), column([_SECOND[n] for n in names])
        self.taken = column([_TAKEN[n] for n in names])
        self.corrected = column([float(n == "adam") for n in names]) > 0
        self.plain = column([float(n == "sgd") for n in names]) > 0
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = 0

    def step(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """(m, p), (m, p) -> (m, p): the new parameters; `gradient` is of the loss without L2."""
        self.steps += 1
        gradient = torch.addcmul(gradient, self.decay, parameters)
        self.mean = torch.addcmul(self.taken * gradient, self.first, self.mean)
        self.square = torch.lerp(gradient * gradient, self.square, self.second)
        missing = [torch.where(self.corrected, 1.0 - decay**self.steps, 1.0) for decay in (self.first, self.second)]
        below = (self.square / missing[1]).sqrt_().add_(_EPS)
        below.masked_fill_(self.plain, 1.0)
        return torch.addcdiv(parameters, -self.rate / missing[0] * self.mean, below)
