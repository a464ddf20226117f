"""checkpoint/dtypes.py: names of element types across safetensors and NumPy. Knows no file; ml_dtypes only when needed."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_NATIVE = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
_EXTENDED = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_BY_KIND = {np.dtype(code).str.lstrip("<|="): name for name, code in _NATIVE.items()}
_BY_EXTENDED_NAME = {extended: name for name, extended in _EXTENDED.items()}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy dtype of a safetensors dtype name.

    Raises:
        Refused: unknown, or smaller than a byte (F4, F6), which no array type here can hold.
    """
    if name in _NATIVE:
        return np.dtype(_NATIVE[name])
    if name in _EXTENDED:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _EXTENDED[name]))
        return extended
    raise Refused(
        f"element type {printable(name)!r} is not supported",
        fix=f"known: {', '.join((*_NATIVE, *_EXTENDED))}",
        code="unknown-dtype",
    )


def safetensors_name(dtype: np.dtype[Any]) -> str:
    """Safetensors name of a NumPy dtype, of either byte order.

    Raises:
        Refused: safetensors has no such type (complex128, longdouble, text).
    """
    name = _BY_EXTENDED_NAME.get(dtype.name) or _BY_KIND.get(dtype.str.lstrip("<>|="))
    if name is None:
        raise Refused(f"safetensors cannot hold {dtype.name} values", code="unknown-dtype")
    return name


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether values may be NaN or infinite: floats of every width (ml_dtypes included) and complex numbers."""
    return dtype.kind in "fc" or dtype.name in _BY_EXTENDED_NAME


def is_countable(shape: Iterable[int], itemsize: int) -> bool:
    """Whether NumPy makes an array of the shape: one without entries may have axes too long for that."""
    return prod(n for n in shape if n) * itemsize < 1 << 62


def cast_back(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in the dtype it had in the file; itself when nothing is to do.

    Raises:
        Refused: a finite value is too large for the narrower type, which would write an infinity.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
        if is_floating(dtype) and bool(np.any(~np.isfinite(narrow) & np.isfinite(array))):
            raise Refused(
                f"a value is too large for {dtype.name}, the type it has in the file",
                fix="choose another form, or save the network in a wider type first",
                code="overflow",
            )
    return narrow
