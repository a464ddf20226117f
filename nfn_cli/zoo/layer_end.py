"""zoo/layer_end.py: what follows a convolution, for many networks at once: batch norm, shortcut, activation. Torch only.

Layout: (m, n, height, width, channels) with one network along m, (m, channels) for what each channel has one of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.zoo.cnn_graph import LEAKY_SLOPE, NORM_EPS
from nfn_cli.zoo.native_layer_end import TOLD_FROM_INPUT, fits, native_layer_end

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "leaky_relu": lambda x: functional.leaky_relu(x, LEAKY_SLOPE),
}


@dataclass(frozen=True)
class Norm:
    """A batch norm. `statistics` are (mean, variance) to use; None takes those of the batch."""

    gamma: Tensor
    beta: Tensor
    statistics: tuple[Tensor, Tensor] | None = None


def end_layer(
    y: Tensor, norm: Norm | None, shortcut: Tensor | None, activation: str
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """σ(norm(y) + shortcut), and the mean and (biased) variance that the norm used, without gradient."""
    differs = norm is not None and norm.statistics is not None and torch.is_grad_enabled()
    if fits(y) and not differs and native_layer_end() is not None:
        parts = (None, None) if norm is None else (norm.gamma, norm.beta)
        given = None if norm is None else norm.statistics
        out, *used = _Native.apply(y, *parts, shortcut, given, activation)  # type: ignore[no-untyped-call]
        return out, None if norm is None else (used[0], used[1])
    used_ones = None
    if norm is not None:
        y, used_ones = _normed(y, norm)
    if shortcut is not None:
        y = y + shortcut
    return FUNCTIONS[activation](y), used_ones


def _normed(y: Tensor, norm: Norm) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    if norm.statistics is None:
        variance, mean = torch.var_mean(y.to(norm.gamma.dtype), (1, 2, 3), correction=0)
    else:
        mean, variance = norm.statistics
    scale = norm.gamma * torch.rsqrt(variance + NORM_EPS)
    shift = norm.beta - mean * scale
    scale, shift = (value[:, None, None, None].to(y.dtype) for value in (scale, shift))
    return torch.addcmul(shift, y, scale), (mean.detach(), variance.detach())


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        shortcut: Tensor | None,
        given: tuple[Tensor, Tensor] | None,
        activation: str,
    ) -> tuple[Tensor, ...]:
        native = native_layer_end()
        assert native is not None
        y = y.contiguous()
        gamma, beta, shortcut = (None if t is None else t.contiguous() for t in (gamma, beta, shortcut))
        out = torch.empty_like(y)
        z = torch.empty_like(y) if activation in TOLD_FROM_INPUT else None
        mean, variance = given or (y.new_empty(len(y), y.shape[-1]), y.new_empty(len(y), y.shape[-1]))
        parts = {"y": y, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        native.run(
            native.forward, activation, LEAKY_SLOPE, NORM_EPS, given is None, shortcut=shortcut, z=z, out=out, **parts
        )
        ctx.save_for_backward(y, gamma, beta, mean, variance, z, out)
        ctx.activation = activation
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        native = native_layer_end()
        assert native is not None
        y, gamma, beta, mean, variance, z, out = ctx.saved_tensors
        by_z = torch.empty_like(y)
        shared = gamma is None or not ctx.needs_input_grad[3]  # whoever passes memory less often is faster
        by_y = by_z if shared else torch.empty_like(y)
        by_gamma, by_beta = (None if gamma is None else torch.empty_like(gamma) for _ in range(2))
        parts = {"y": y, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance, "z": z, "out": out}
        found = {"by_z": by_z, "by_y": by_y, "by_gamma": by_gamma, "by_beta": by_beta}
        given = upstream[0].contiguous()
        native.run(native.backward, ctx.activation, LEAKY_SLOPE, NORM_EPS, True, by_out=given, **parts, **found)
        return by_y, by_gamma, by_beta, by_z if ctx.needs_input_grad[3] else None, None, None
