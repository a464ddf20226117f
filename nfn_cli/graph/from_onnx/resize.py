"""graph/from_onnx/resize.py: Resize and Upsample, where they do what the vocabulary's `resize` does.

ONNX has many ways to place the new positions among the old; each is a matrix for each axis, and a node is understood when
its matrices are those of `resize`. Specification: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nfn_cli.graph.from_onnx.capture import DoesNotFit, Untranslated, Value
from nfn_cli.graph.from_onnx.registry import Call, translates

_FloatArray = np.ndarray[Any, np.dtype[np.float64]]
_ROUND: Mapping[str, Callable[[_FloatArray], _FloatArray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


@translates("Resize", "Upsample")
def _resize(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    if call.attribute("antialias", 0) or call.attribute("exclude_outside", 0) or len(x.shape) < 3:
        raise Untranslated
    size, scales = _target(call)
    if size[:2] != list(x.shape[:2]):
        raise Untranslated
    mode = str(call.attribute("mode", "nearest"))
    if mode not in ("nearest", "linear"):
        raise Untranslated
    how = str(call.attribute("coordinate_transformation_mode", "half_pixel"))
    if call.node.kind == "Upsample" or len(call.inputs) == 2:  # before version 11
        how = "asymmetric"
    rounding = "floor" if how == "asymmetric" and call.node.kind == "Upsample" else "round_prefer_floor"
    rounding = str(call.attribute("nearest_mode", rounding))
    for corners in (False, True):
        attributes = {"size": size[2:], "mode": mode, **({"align_corners": True} if corners else {})}
        pairs = zip(x.shape[2:], size[2:], scales[2:], strict=True)
        if all(_same_places(n, m, s, mode, how, rounding, corners) for n, m, s in pairs):
            return c.op("resize", (x,), size, **attributes)
    raise Untranslated


def _target(call: Call) -> tuple[list[int], list[float]]:
    """Length of each axis, and the factor that the node computes positions with."""
    shape, rank = call.shape, len(call.shape)
    if call.node.kind == "Upsample" or len(call.inputs) == 2:
        given = call.attribute("scales", None) or call.numbers(1)
        scales, sizes = None if given is None else [float(s) for s in given], None
    else:
        scales, sizes = call.numbers(2), call.integers(3, "sizes") if len(call.inputs) > 3 else None
    axes = [call.axis(int(axis)) for axis in call.attribute("axes", list(range(rank)))]
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Untranslated
    if sizes:
        if len(sizes) != len(axes):
            raise Untranslated
        full = list(shape)
        for axis, length in zip(axes, sizes, strict=True):
            full[axis] = length
        if min(full) < 1:
            raise DoesNotFit
        return full, [m / n for n, m in zip(shape, full, strict=True)]
    if not scales or len(scales) != len(axes) or not all(0 < s < 1e6 for s in scales):
        raise Untranslated
    factors = [1.0] * rank
    for axis, factor in zip(axes, scales, strict=True):
        factors[axis] = factor
    return [int(np.floor(n * s)) for n, s in zip(shape, factors, strict=True)], factors


def _same_places(n: int, m: int, scale: float, mode: str, how: str, rounding: str, corners: bool) -> bool:
    if not 1 <= m <= 1 << 16:
        return False
    theirs = _places(n, m, scale, how)
    if theirs is None:
        return False
    i = np.arange(m, dtype=np.float64)
    if mode == "nearest":
        found = np.clip(_ROUND[rounding](theirs), 0, n - 1) if rounding in _ROUND else np.full(m, -1.0)
        return not corners and bool((found == np.floor(i * n / m)).all())
    ours = i * ((n - 1) / max(1, m - 1)) if corners else np.maximum((i + 0.5) * n / m - 0.5, 0.0)
    return bool(np.allclose(np.clip(theirs, 0, n - 1), np.clip(ours, 0, n - 1), rtol=0, atol=1e-6))


def _places(n: int, m: int, scale: float, how: str) -> _FloatArray | None:
    i = np.arange(m, dtype=np.float64)
    if how == "asymmetric":
        return i / scale
    if how == "align_corners":
        return i * ((n - 1) / (m - 1)) if m > 1 else 0 * i
    if how == "half_pixel" or (how == "pytorch_half_pixel" and m > 1):
        return (i + 0.5) / scale - 0.5
    return 0 * i if how == "pytorch_half_pixel" else None
