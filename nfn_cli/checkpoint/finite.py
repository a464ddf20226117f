"""checkpoint/finite.py: whether weights hold NaN, infinity, or what cannot be squared. Knows arrays, no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        nan, infinite = _count_bad(checkpoint.tensors[name])
        if nan or infinite:
            found = " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (infinite, "infinite")) if n)
            raise Refused(
                f"weights are not finite: {found} of {checkpoint.tensors[name].size} values",
                where=printable(name),
                fix="use a checkpoint from before the training diverged",
                code="non-finite-weights",
            )
        large = _count_large(checkpoint.tensors[name])
        if large:
            raise Refused(
                f"{large} of {checkpoint.tensors[name].size} weights are larger than 10^120, too large for their squares",
                where=printable(name),
                fix="use a checkpoint from before the training diverged",
                code="weights-too-large",
            )


def _count_bad(array: Array) -> tuple[int, int]:
    """(number of NaN, number of infinities); the second look only happens where the first found something."""
    if not is_floating(array.dtype) or all(_all_finite(piece) for piece in _pieces(array)):
        return 0, 0
    nan = sum(int(np.count_nonzero(np.isnan(_plain(piece)))) for piece in _pieces(array))
    infinite = sum(int(np.count_nonzero(np.isinf(_plain(piece)))) for piece in _pieces(array))
    return nan, infinite


def _count_large(array: Array) -> int:
    if array.dtype.kind not in "fc" or float(np.finfo(array.dtype).max) < _LARGEST:
        return 0
    return sum(int(np.count_nonzero(np.abs(piece) > _LARGEST)) for piece in _pieces(array))


def _all_finite(piece: Array) -> bool:
    if piece.dtype.name == "bfloat16":
        # Exponent bits all ones; far faster than the element-wise function of ml_dtypes.
        return not bool(np.any((piece.view(np.uint16) & np.uint16(0x7F80)) == np.uint16(0x7F80)))
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
