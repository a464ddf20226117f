"""graph/aten/reductions.py: statistics over axes, and what is a softmax of some kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.registry import Untranslated, translates

Axes = int | Sequence[int] | None


def _reduction(aten: str, statistic: str) -> None:
    @translates(aten)
    def translation(c: Capture, out: Shape, x: Any, axes: Axes = None, keepdim: bool = False, **_: Any) -> Any:
        return _reduced(c, x, axes, keepdim, statistic)


for _aten, _ours in {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min"}.items():
    _reduction(_aten, _ours)


@translates("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(c: Capture, out: Shape, x: Any, order: Any = 2, axes: Axes = None, keepdim: bool = False, **_: Any) -> Any:
    if order != 2:
        raise Untranslated
    return _reduced(c, x, axes, keepdim, "norm")


@translates("var")
def _variance(
    c: Capture, out: Shape, x: Any, axes: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: float | None = 1,
) -> Any:  # fmt: skip
    if isinstance(axes, bool):  # var(x, unbiased)
        axes, unbiased = None, axes
    count = 1
    for axis in _axes(axes, len(x.shape)):
        count *= x.shape[axis]
    freedom = count - (0 if not unbiased else 1 if correction is None else correction)
    return c.scalar(_reduced(c, x, axes, keepdim, "variance"), count / freedom)


@translates("std")
def _deviation(c: Capture, out: Shape, *args: Any, **kwargs: Any) -> Any:
    return c.pointwise(_variance(c, out, *args, **kwargs), "sqrt")


@translates("softmax", "_softmax")
def softmax(c: Capture, out: Shape, x: Any, axis: int, *_: Any, **__: Any) -> Any:
    return c.op("softmax", (x,), x.shape, axis=axis, shape=list(x.shape))


@translates("log_softmax", "_log_softmax")
def _log_softmax(c: Capture, out: Shape, x: Any, axis: int, *_: Any, **__: Any) -> Any:
    return c.pointwise(softmax(c, out, x, axis), "log")


def _axes(axes: Axes, rank: int) -> list[int]:
    """None and an empty list stand for all of them."""
    listed = [axes] if isinstance(axes, int) else list(axes or range(rank))
    return sorted({axis % rank for axis in listed})


def _reduced(c: Capture, x: Any, axes: Axes, keep: bool, statistic: str) -> Any:
    shape, wanted = x.shape, _axes(axes, len(x.shape))
    kept = [1 if axis in wanted else n for axis, n in enumerate(shape)]
    out = c.op("reduce", (x,), kept, axes=wanted, statistic=statistic)
    return out if keep else c.reshape(out, [n for axis, n in enumerate(shape) if axis not in wanted])
