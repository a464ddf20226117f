"""graph/aten/arithmetic.py: sums, products, powers, pointwise functions, matrix products, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Parameter, Shape
from nfn_cli.graph.aten.registry import Untranslated, is_number, translates

_POINTWISE = {
    name: name
    for name in ("relu", "silu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "mish", "selu", "sin", "cos", "erf", "exp",
                 "sqrt", "rsqrt", "abs", "square", "relu6", "reciprocal", "log", "softplus")
} | {"log_sigmoid": "logsigmoid"}  # fmt: skip


def _pointwise(aten: str, function: str) -> None:
    @translates(aten)
    def translation(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
        return c.pointwise(x, function)


for _aten, _ours in _POINTWISE.items():
    _pointwise(_aten, _ours)


@translates("gelu")
def _gelu(c: Capture, out: Shape, x: Any, approximate: str = "none") -> Any:
    return c.pointwise(x, "gelu" if approximate == "none" else "gelu_tanh")


@translates("leaky_relu")
def _leaky_relu(c: Capture, out: Shape, x: Any, slope: float = 0.01) -> Any:
    return c.pointwise(x, "leaky_relu", slope=float(slope))


@translates("elu")
def _elu(c: Capture, out: Shape, x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise Untranslated
    return c.pointwise(x, "elu")


@translates("hardtanh")
def _hardtanh(c: Capture, out: Shape, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    if (low, high) == (0, 6):
        return c.pointwise(x, "relu6")
    return c.pointwise(x, "hardtanh") if (low, high) == (-1, 1) else clip(c, out, x, low, high)


@translates("clamp", "clamp_min")
def clip(c: Capture, out: Shape, x: Any, min: Any = None, max: Any = None) -> Any:
    x = c.value(x)
    bounds = {name: float(value) for name, value in (("low", min), ("high", max)) if value is not None}
    return c.pointwise(x, "relu") if bounds == {"low": 0.0} else c.op("clip", (x,), x.shape, **bounds)


@translates("prelu")
def _prelu(c: Capture, out: Shape, x: Any, weight: Any) -> Any:
    if not c.is_plain(weight):
        raise Untranslated
    return c.op("pointwise", (x,), x.shape, {"weight": weight.tensor}, function="prelu")


@translates("neg")
def _neg(c: Capture, out: Shape, x: Any) -> Any:
    return c.scalar(x, -1.0)


@translates("add")
def _add(c: Capture, out: Shape, x: Any, y: Any, alpha: float = 1) -> Any:
    return add(c, x, y, alpha)


def add(c: Capture, x: Any, y: Any, alpha: float = 1) -> Any:
    """x + alpha · y."""
    if is_number(x):
        return c.scalar(y, alpha, x)
    if is_number(y):
        return c.scalar(x, 1.0, alpha * y)
    if alpha != 1:
        y = c.scalar(y, alpha)
    return c.op("add", (x, y), _broadcast(x.shape, y.shape))


@translates("sub")
def _sub(c: Capture, out: Shape, x: Any, y: Any, alpha: float = 1) -> Any:
    return add(c, c.scalar(y, -1.0), x) if is_number(x) else add(c, x, y, -alpha)


@translates("rsub")
def _rsub(c: Capture, out: Shape, x: Any, y: Any, alpha: float = 1) -> Any:
    return _sub(c, out, y, x, alpha)


@translates("mul")
def _mul(c: Capture, out: Shape, x: Any, y: Any) -> Any:
    return mul(c, x, y)


def mul(c: Capture, x: Any, y: Any) -> Any:
    if is_number(x):
        x, y = y, x
    if is_number(y):
        return c.scalar(x, y)
    if isinstance(x, Parameter) and not isinstance(y, Parameter):
        x, y = y, x
    shape = _broadcast(x.shape, y.shape)
    axis = _vector_axis(y, len(x.shape))
    if axis is not None and shape == tuple(x.shape):
        return c.op("scale", (x,), shape, {"weight": y.tensor}, axis=axis)
    return c.op("mul", (x, y), shape)


@translates("div")
def _div(c: Capture, out: Shape, x: Any, y: Any, **_: Any) -> Any:
    return c.scalar(x, 1.0 / y) if is_number(y) else mul(c, x, c.pointwise(y, "reciprocal"))


@translates("pow")
def _pow(c: Capture, out: Shape, x: Any, y: Any) -> Any:
    powers = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", 1: "identity"}
    if not is_number(y) or y not in powers:
        raise Untranslated
    return c.pointwise(x, powers[y])


@translates("addcmul")
def _addcmul(c: Capture, out: Shape, x: Any, y: Any, z: Any, value: float = 1) -> Any:
    product = mul(c, y, z)
    return add(c, x, c.scalar(product, value) if value != 1 else product)


@translates("matmul", "bmm")
def _matmul(c: Capture, out: Shape, x: Any, y: Any) -> Any:
    return matmul(c, x, y)


def matmul(c: Capture, x: Any, y: Any) -> Any:
    if len(x.shape) < 2 or len(y.shape) < 2:
        raise Untranslated
    shape = [*_broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]]
    return c.op("matmul", (x, y), shape, shape=shape)


@translates("softmax")
def softmax(c: Capture, out: Shape, x: Any, axis: int, *_: Any, **__: Any) -> Any:
    return c.op("softmax", (x,), out, axis=axis, shape=list(out))


def _reduction(aten: str, statistic: str) -> None:
    @translates(aten)
    def translation(
        c: Capture, out: Shape, x: Any, axes: Sequence[int] | None = None, keepdim: bool = False, **_: Any
    ) -> Any:
        return _reduced(c, x, axes, keepdim, statistic)


for _aten, _ours in {"mean": "mean", "sum": "sum", "amax": "max"}.items():
    _reduction(_aten, _ours)


@translates("linalg_vector_norm")
def _norm(c: Capture, out: Shape, x: Any, order: float = 2, axes: Any = None, keepdim: bool = False, **_: Any) -> Any:
    if order != 2:
        raise Untranslated
    return _reduced(c, x, axes, keepdim, "norm")


def _reduced(c: Capture, x: Any, axes: Sequence[int] | None, keep: bool, statistic: str) -> Any:
    shape = x.shape
    wanted = sorted({axis % len(shape) for axis in axes}) if axes else list(range(len(shape)))
    kept = [1 if axis in wanted else n for axis, n in enumerate(shape)]
    out = c.op("reduce", (x,), kept, axes=wanted, statistic=statistic)
    return out if keep else c.reshape(out, [n for axis, n in enumerate(shape) if axis not in wanted])


def _broadcast(left: Sequence[int], right: Sequence[int]) -> Shape:
    rank = max(len(left), len(right))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (left, right))
    return tuple(n if m == 1 else m for n, m in zip(a, b, strict=True))


def _vector_axis(p: Any, rank: int) -> int | None:
    """The axis of a value of `rank` axes that a parameter is spread along; None unless it is a vector."""
    if not isinstance(p, Parameter) or not p.trained or len(p.shape) > rank:
        return None
    long = [axis - len(p.shape) for axis, n in enumerate(p.shape) if n != 1]
    return long[0] % rank if len(long) == 1 else None
