"""zoo/native_sine_fit.py: the compiled fit of sine networks. Knows ctypes and sine_fit.c; no torch."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from nfn_cli.zoo.native_library import SINES, native_library

Array = np.ndarray[Any, np.dtype[Any]]

MOST_LAYERS = 16  # of sine_fit.c
_ARRAYS = {
    "coordinates": np.float32,
    "targets": np.float32,
    "parameters": np.float32,
    "rates": np.float32,
    "enough": np.float32,
    "steps": np.int64,
    "errors": np.float32,
    "widths": np.int64,
    "frequencies": np.float32,
}
_SIZES = ("networks", "points", "layers", "most_steps")
_NUMBERS = ("beta1", "beta2", "epsilon")


class _Fit(ctypes.Structure):
    """`Fit` of sine_fit.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_long) for name in _SIZES),
        *((name, ctypes.c_float) for name in _NUMBERS),
    )


def has_native_fit(layers: int) -> bool:
    """Whether the compiled form is there and takes so many layers."""
    return native_library(SINES) is not None and layers <= MOST_LAYERS and ctypes.sizeof(ctypes.c_long) == 8


def native_fit(arrays: dict[str, Array], numbers: dict[str, float]) -> None:
    """Fit; `parameters`, `steps` and `errors` are overwritten. The interpreter is free meanwhile.

    Raises:
        MemoryError: as said.
    """
    library = native_library(SINES)
    assert library is not None
    call = _Fit(**numbers)
    for name, dtype in _ARRAYS.items():
        array = arrays[name]
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise AssertionError(f"{name} is not contiguous {dtype}")
        setattr(call, name, array.ctypes.data)
    call.networks, call.points = len(arrays["parameters"]), arrays["coordinates"].shape[1]
    call.layers, call.most_steps = len(arrays["widths"]) - 1, arrays["rates"].shape[1]
    if library.nfn_fit_sines(ctypes.byref(call)) != 0:
        raise MemoryError
