"""checkpoint/finite.py: whether weights hold NaN, infinity, or what cannot be squared. Knows arrays, no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_PIECE = 1 << 17  # elements per piece: stays in the second-level cache, whatever the tensor's size
_LARGEST = 2.0**400  # norms and products of a few of these are still numbers of float64; no smaller type reaches it


def check_finite(checkpoint: Checkpoint, names: Iterable[str] | None = None) -> None:
    """Refuse a checkpoint whose named tensors (default: all) hold NaN, infinity, or numbers beyond 2^400.

    Raises:
        Refused: with code "non-finite-weights" or "weights-too-large", naming the first such tensor and how many values are bad.
    """
    for name in checkpoint.tensors if names is None else names:
        nan, infinite, large = _count_bad(checkpoint.tensors[name])
        size = checkpoint.tensors[name].size
        if nan or infinite:
            found = " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (infinite, "infinite")) if n)
            said, code = f"weights are not finite: {found} of {size} values", "non-finite-weights"
        elif large:
            said = f"{large} of {size} weights are larger than 10^120, too large for their squares"
            code = "weights-too-large"
        else:
            continue
        raise Refused(said, where=printable(name), fix="use a checkpoint from before the training diverged", code=code)


def _count_bad(array: Array) -> tuple[int, int, int]:
    """(number of NaN, of infinities, of those too large); the second look only happens where the first found something."""
    if not is_floating(array.dtype) or all(_all_good(piece) for piece in _pieces(array)):
        return 0, 0, 0
    nan = sum(int(np.count_nonzero(np.isnan(_plain(piece)))) for piece in _pieces(array))
    infinite = sum(int(np.count_nonzero(np.isinf(_plain(piece)))) for piece in _pieces(array))
    if not _is_wide(array.dtype):
        return nan, infinite, 0
    large = sum(int(np.count_nonzero(np.abs(piece) > _LARGEST)) for piece in _pieces(array))
    return nan, infinite, large - infinite


def _is_wide(dtype: np.dtype[Any]) -> bool:
    """Whether the type reaches numbers that are too large."""
    return dtype.kind in "fc" and float(np.finfo(dtype).max) > _LARGEST


def _all_good(piece: Array) -> bool:
    if piece.dtype.name == "bfloat16":
        # Exponent bits all ones; far faster than the element-wise function of ml_dtypes.
        return not bool(np.any((piece.view(np.uint16) & np.uint16(0x7F80)) == np.uint16(0x7F80)))
    if _is_wide(piece.dtype):
        return bool((np.abs(piece) <= _LARGEST).all())
    return bool(np.isfinite(_plain(piece)).all())


def _plain(piece: Array) -> Array:
    return piece if piece.dtype.kind in "fc" else piece.astype(np.float32)


def _pieces(array: Array) -> Iterator[Array]:
    if array.flags.c_contiguous or array.flags.f_contiguous:
        flat = array.reshape(-1, order="C" if array.flags.c_contiguous else "F")
        for start in range(0, flat.size, _PIECE):
            yield flat[start : start + _PIECE]
    elif array.size <= _PIECE:
        yield array.reshape(-1)
    else:
        for part in array:
            yield from _pieces(part)
