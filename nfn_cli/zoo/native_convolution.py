"""zoo/native_convolution.py: the compiled form of the batched convolution. Knows ctypes and convolution.c; no network.

What it returns is compared with PyTorch before it is used.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nfn_cli.zoo.native_library import CNNS, VECTOR, native_library

ACTIVATION_CODES = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3}
_POINTERS = ("kernel", "bias", "output", "by_output", "by_input", "by_kernel", "by_bias")
_SIZES = ("networks", "images", "height", "width", "in", "out", "size", "stride", "activation")


class _Call(ctypes.Structure):
    """`Call` of convolution.c."""

    _fields_ = (
        ("input", ctypes.c_void_p),
        ("input_per_network", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_long) for name in _SIZES),
        ("slope", ctypes.c_float),
    )


class NativeConvolution:
    """The two functions of the library. All tensors are float32, contiguous, on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._forward, self._backward = library.nfn_convolve, library.nfn_convolve_back

    def forward(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, activation: str, slope: float
    ) -> Tensor:
        """(m or 1, n, h, w, i), (m, k, k, i, o), (m, o) -> (m, n, h', w', o), after the activation."""
        _, images, height, width, _ = x.shape
        out = x.new_empty(len(kernel), images, -(-height // stride), -(-width // stride), kernel.shape[-1])
        self._run(self._forward, x, kernel, out, stride, activation, slope, bias=bias)
        return out

    def backward(
        self,
        x: Tensor,
        kernel: Tensor,
        out: Tensor,
        by_output: Tensor,
        stride: int,
        activation: str,
        slope: float,
        wants: tuple[bool, bool],
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Gradients by input and bias, each where wanted, and by kernel (m, k, k, i, o)."""
        by_input = torch.empty_like(x) if wants[0] else None
        by_kernel = torch.empty_like(kernel)
        by_bias = kernel.new_empty(len(kernel), kernel.shape[-1]) if wants[1] else None
        more = {"by_output": by_output, "by_input": by_input, "by_kernel": by_kernel, "by_bias": by_bias}
        self._run(self._backward, x, kernel, out, stride, activation, slope, **more)
        return by_input, by_kernel, by_bias

    def _run(
        self,
        function: Any,
        x: Tensor,
        kernel: Tensor,
        out: Tensor,
        stride: int,
        activation: str,
        slope: float,
        **more: Tensor | None,
    ) -> None:
        tensors = {"kernel": kernel, "output": out, **more}
        if any(t is not None and (t.dtype != torch.float32 or not t.is_contiguous()) for t in (x, *tensors.values())):
            raise AssertionError("the compiled convolution takes contiguous float32 only")
        call = _Call(input=x.data_ptr(), input_per_network=x[0].numel() if len(x) > 1 else 0, slope=slope)
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        models, size, _, incoming, outgoing = kernel.shape
        code = ACTIVATION_CODES[activation]
        for name, value in zip(_SIZES, (models, *x.shape[1:4], incoming, outgoing, size, stride, code), strict=True):
            setattr(call, name, value)
        if function(ctypes.byref(call)) != 0:
            raise MemoryError


def fits(x: Tensor, kernel: Tensor, stride: int) -> bool:
    """Whether the compiled form takes (m or 1, n, h, w, i) and (m, k, k, i, o)."""
    by_input = x.requires_grad and (len(x) != len(kernel) or kernel.shape[3] % VECTOR != 0)
    return bool(
        x.device.type == "cpu"
        and x.dtype == kernel.dtype == torch.float32
        and kernel.shape[-1] % VECTOR == 0
        and kernel.shape[1] in (1, 3)
        and stride in (1, 2)
        and not by_input
    )


@cache
def native_convolution() -> NativeConvolution | None:
    """The compiled form, or None where it cannot be had."""
    library = native_library(CNNS)
    found = None if library is None else NativeConvolution(library)
    return found if found is not None and _agrees(found) else None


def _agrees(native: NativeConvolution) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 5, 8, generator=generator)
    kernel = torch.randn(2, 3, 3, 8, 24, generator=generator)
    out = native.forward(x, kernel, None, 2, "identity", 0.0)
    for model in range(2):
        weight = kernel[model].permute(3, 2, 0, 1)
        expected = torch.nn.functional.conv2d(x[model].permute(0, 3, 1, 2), weight, None, 2, 1).permute(0, 2, 3, 1)
        if not torch.allclose(out[model], expected, rtol=1e-4, atol=1e-4):
            return False
    return True
