"""zoo/batched_convolution.py: one convolution of many networks at once. Knows tensors only (torch); no network.

Layout: (m, n, height, width, channels) with one network along m; a leading 1 means that all networks read the same. On
the CPU the compiled form does it where there is one; elsewhere one matrix product for each network over gathered patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nfn_cli.zoo.cnn_graph import LEAKY_SLOPE
from nfn_cli.zoo.layer_end import end_layer
from nfn_cli.zoo.native_convolution import ACTIVATION_CODES, fits, native_convolution


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, activation: str = "identity") -> Tensor:
    """σ(convolution + bias), padding k // 2, k odd.

    (m or 1, n, h, w, i), (m, k, k, i, o), (m, o) -> (m, n, ⌈h/stride⌉, ⌈w/stride⌉, o)
    """
    if fits(x, kernel, stride) and native_convolution() is not None:
        fused = activation if activation in ACTIVATION_CODES else "identity"
        ended: Tensor = _Native.apply(x, kernel, bias, stride, fused)  # type: ignore[no-untyped-call]
        return ended if fused == activation else end_layer(ended, None, None, activation)[0]
    out: Tensor = _Gathered.apply(x, kernel, stride)  # type: ignore[no-untyped-call]
    if bias is not None:
        out = out + bias[:, None, None, None].to(out.dtype)
    return end_layer(out, None, None, activation)[0]


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, activation: str) -> Tensor:
        native = native_convolution()
        assert native is not None
        x, kernel = x.contiguous(), kernel.contiguous()
        fixed = None if bias is None else bias.contiguous()
        out = native.forward(x, kernel, fixed, stride, activation, LEAKY_SLOPE)
        ctx.save_for_backward(x, kernel, out)
        ctx.stride, ctx.activation = stride, activation
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None, None]:
        native = native_convolution()
        assert native is not None
        x, kernel, out = ctx.saved_tensors
        wants = (ctx.needs_input_grad[0], ctx.needs_input_grad[2])
        moved = upstream[0].contiguous()
        by_input, by_kernel, by_bias = native.backward(
            x, kernel, out, moved, ctx.stride, ctx.activation, LEAKY_SLOPE, wants
        )
        return by_input, by_kernel, by_bias, None, None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int) -> Tensor:
        patches = _patches(x, kernel.shape[1], stride)
        ctx.save_for_backward(patches, kernel)
        ctx.stride, ctx.shape = stride, x.shape
        rows = patches.flatten(1, 3).flatten(2).expand(len(kernel), -1, -1)
        return torch.bmm(rows, kernel.flatten(1, 3)).view(len(kernel), *patches.shape[1:4], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor, None]:
        patches, kernel = ctx.saved_tensors
        rows = patches.flatten(1, 3).flatten(2).expand(len(kernel), -1, -1)
        moved = upstream[0].contiguous().view(len(kernel), -1, kernel.shape[-1])
        by_kernel = torch.bmm(rows.transpose(1, 2), moved).view_as(kernel)
        by_input = None
        if ctx.needs_input_grad[0]:
            taken = torch.bmm(moved, kernel.flatten(1, 3).transpose(1, 2)).view(len(kernel), *patches.shape[1:])
            by_input = _scattered(taken, ctx.shape, ctx.stride)
            if ctx.shape[0] == 1:
                by_input = by_input.sum(0, keepdim=True)
        return by_input, by_kernel, None


def _patches(x: Tensor, size: int, stride: int) -> Tensor:
    """(m, n, h, w, i) -> (m, n, h', w', k, k·i): what each position of the output reads, zeros around the image."""
    models, images, height, width, channels = x.shape
    if size == 1:
        return x[:, :, ::stride, ::stride, None].contiguous()
    around = size // 2
    padded = torch.nn.functional.pad(x, (0, 0, around, around, around, around))
    m, n, h, w, c = padded.stride()
    shape = (models, images, -(-height // stride), -(-width // stride), size, size * channels)
    # the columns of one kernel row lie side by side: one run of k·i numbers
    return padded.as_strided(shape, (m, n, h * stride, w * stride, h, c)).contiguous()


def _scattered(taken: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Transpose of `_patches`: every number is added to where it was read. (m, n, h', w', k, k·i) -> (m, n, h, w, i)."""
    _, images, height, width, channels = shape
    models, size = taken.shape[0], taken.shape[4]
    around = size // 2
    padded = taken.new_zeros(models, images, height + 2 * around, width + 2 * around, channels)
    parts = taken.view(*taken.shape[:5], size, channels)
    ends = [stride * (count - 1) + 1 for count in taken.shape[2:4]]
    for row in range(size):
        for column in range(size):
            padded[:, :, row : row + ends[0] : stride, column : column + ends[1] : stride] += parts[
                :, :, :, :, row, column
            ]
    return padded[:, :, around : around + height, around : around + width].contiguous()
