"""networks/probing.py: what a classifier's answers to probe inputs tell about it. Knows logits; no graph, no file.

Function access in the manner of ProbeGen (arXiv 2410.10811): probes are shown to the network, a learned head reads the
answers. Whatever depends on the function alone is blind to every symmetry, by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Temperatures at which the answers are read, relative to the spread of the network's own logits; None: as they are.
_SHARPNESS: tuple[float | None, ...] = (None, 2.0, 6.0, 20.0)
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_MARGIN_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
_MARGIN_SLOPES = (1.0, 3.0, 10.0, 30.0)
_LEAST_LOG = -15.0
_LARGEST = 1e15  # logits beyond are cut: a network whose answers overflow is still a network


@dataclass(frozen=True, slots=True)
class Probes:
    """Inputs that are shown to every network.

    Attributes:
        inputs: (k, *input shape).
        roles: (k,) int64, the class that each probe stands for; every class has at least one.
    """

    inputs: Tensor
    roles: Tensor

    def __len__(self) -> int:
        return len(self.roles)


@dataclass(frozen=True, slots=True)
class Answers:
    """Statistics of the answers of n networks, (n, s)."""

    statistics: Tensor

    def __len__(self) -> int:
        return len(self.statistics)

    def __getitem__(self, rows: slice | Tensor) -> Answers:
        return Answers(self.statistics[rows])

    def to(self, dtype: torch.dtype) -> Answers:
        """The same in another dtype."""
        return Answers(self.statistics.to(dtype))


def answer_statistics(logits: Tensor, roles: Tensor) -> Tensor:
    """Answers of n networks to k probes, and the probes' roles -> (n, s), differentiable in the logits.

    How often, how surely and how widely a network tells the roles apart: probabilities, entropies, margins, and how
    much the answers vary between roles compared with within. Each row depends on its own network only.

    Args:
        logits: (n, k, c).
        roles: (k,) in 0..c−1.
    """
    classes = logits.shape[2]
    logits = torch.nan_to_num(logits, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST).clamp(-_LARGEST, _LARGEST)
    logits = logits - logits.mean(2, keepdim=True)
    spread = logits.square().mean((1, 2)).add(1e-12).sqrt()
    relative = logits / spread[:, None, None]
    own = roles[None, :, None].expand(len(logits), -1, 1)
    of_role = functional.one_hot(roles, classes).to(logits.dtype)
    of_role = of_role / of_role.sum(0).clamp(min=1)  # (k, c): averages over the probes of a role
    parts: list[Tensor] = []
    for sharpness in _SHARPNESS:
        log_p = functional.log_softmax(logits if sharpness is None else relative * sharpness, -1)
        p = log_p.exp()
        right, log_right = p.gather(2, own)[..., 0], log_p.gather(2, own)[..., 0].clamp(min=_LEAST_LOG)
        entropy, surest = -(p * log_p.clamp(min=_LEAST_LOG)).sum(-1), p.amax(-1)
        mean = p.mean(1)
        confusion = torch.einsum("nkc,kr->nrc", p, of_role)
        gained = confusion * (_log(confusion) - _log(mean)[:, None])
        for each in (right, log_right, entropy, surest):
            parts += [_column(each.mean(1)), _column(_deviation(each, 1))]
        parts += [_column(-(mean * _log(mean)).sum(1)), _column(gained.sum(2).mean(1))]
        parts.append(torch.diagonal(confusion, dim1=1, dim2=2))
        if sharpness is None:
            parts += [_quantiles(surest, _LEVELS), _quantiles(entropy, _LEVELS)]
            parts += [p.sort(-1).values.mean(1), _deviation(p, 1), mean]
    others = logits.scatter(2, own, float("-inf")).amax(-1)
    margin = (logits.gather(2, own)[..., 0] - others) / spread[:, None]
    parts += [_column((margin > 0).to(logits.dtype).mean(1)), _column(spread.log())]
    parts.append(_deviation(logits, 1).log1p())
    parts.append(_quantiles(margin, _MARGIN_LEVELS))
    parts += [_column(torch.sigmoid(margin * slope).mean(1)) for slope in _MARGIN_SLOPES]
    between = torch.einsum("nkc,kr->nrc", relative, of_role).var(1, correction=0)
    total = relative.var(1, correction=0)
    parts += [between / (total + 1e-8), _column(between.sum(1) / (total.sum(1) + 1e-8))]
    return torch.cat(parts, 1)


def _column(values: Tensor) -> Tensor:
    return values[:, None]


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-9).log()


def _deviation(values: Tensor, axis: int) -> Tensor:
    # softened: the gradient of a root at 0 is infinite
    return values.var(axis, correction=0).add(1e-12).sqrt()


def _quantiles(values: Tensor, levels: tuple[float, ...]) -> Tensor:
    return torch.quantile(values, torch.tensor(levels, dtype=values.dtype, device=values.device), dim=1).T
