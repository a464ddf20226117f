"""zoo/native_layer_end.py: the compiled form of what follows a convolution. Knows ctypes and layer_end.c; no network."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nfn_cli.zoo.native_library import CNNS, VECTOR, native_library

CODES = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "gelu": 4, "silu": 5}
TOLD_FROM_INPUT = ("gelu", "silu")  # activations whose derivative cannot be told from their output
_POINTERS = (
    *("y", "shortcut", "mean", "variance", "gamma", "beta", "z", "out"),
    *("by_out", "by_z", "by_y", "by_gamma", "by_beta"),
)
_SIZES = ("networks", "rows", "channels", "activation", "training")


class _End(ctypes.Structure):
    """`End` of layer_end.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_long) for name in _SIZES),
        ("slope", ctypes.c_float),
        ("eps", ctypes.c_float),
    )


@dataclass(frozen=True)
class NativeLayerEnd:
    """The two functions of the library; tensors are float32, contiguous, on the CPU, (m, …, channels) or (m, channels)."""

    forward: Any
    backward: Any

    def run(
        self, function: Any, activation: str, slope: float, eps: float, training: bool, **tensors: Tensor | None
    ) -> None:
        y = tensors["y"]
        assert y is not None
        if any(t is not None and (t.dtype != torch.float32 or not t.is_contiguous()) for t in tensors.values()):
            raise AssertionError("the compiled layer end takes contiguous float32 only")
        call = _End(slope=slope, eps=eps)
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        sizes = (len(y), y[0, ..., 0].numel(), y.shape[-1], CODES[activation], int(training))
        for name, value in zip(_SIZES, sizes, strict=True):
            setattr(call, name, value)
        if function(ctypes.byref(call)) != 0:
            raise AssertionError(f"the compiled layer end does not know {activation}")


def fits(y: Tensor) -> bool:
    """Whether the compiled form takes (m, …, channels)."""
    return y.device.type == "cpu" and y.dtype == torch.float32 and y.shape[-1] % VECTOR == 0


@cache
def native_layer_end() -> NativeLayerEnd | None:
    """The compiled form, or None where it cannot be had."""
    library = native_library(CNNS)
    return None if library is None else NativeLayerEnd(library.nfn_end_layer, library.nfn_end_layer_back)
