"""graph/aten/arithmetic.py: sums, products, powers, pointwise functions, matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Parameter, Shape, Value
from nfn_cli.graph.aten.registry import Untranslated, is_number, translates

_POINTWISE = {
    name: name
    for name in ("relu", "silu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "mish", "selu", "sin", "cos", "erf", "exp",
                 "sqrt", "rsqrt", "abs", "square", "relu6", "reciprocal", "log", "asinh")
} | {"log_sigmoid": "logsigmoid", "atan": "arctan", "arctan": "arctan", "absolute": "abs"}  # fmt: skip


def _pointwise(aten: str, function: str) -> None:
    @translates(aten)
    def translation(c: Capture, out: Shape, x: Any) -> Any:
        return c.pointwise(x, function)


for _aten, _ours in _POINTWISE.items():
    _pointwise(_aten, _ours)


@translates("softplus")
def _softplus(c: Capture, out: Shape, x: Any, beta: float = 1, threshold: float = 20) -> Any:
    if (beta, threshold) != (1, 20):
        raise Untranslated
    return c.pointwise(x, "softplus")


@translates("gelu")
def _gelu(c: Capture, out: Shape, x: Any, approximate: str = "none") -> Any:
    return c.pointwise(x, "gelu" if approximate == "none" else "gelu_tanh")


@translates("leaky_relu")
def _leaky_relu(c: Capture, out: Shape, x: Any, slope: float = 0.01) -> Any:
    return c.pointwise(x, "leaky_relu", slope=float(slope))


@translates("rrelu")
def _rrelu(
    c: Capture, out: Shape, x: Any, lower: float = 0.125, upper: float = 1 / 3, training: bool = False, *_: Any
) -> Any:
    if training:
        raise Untranslated
    return _leaky_relu(c, out, x, (lower + upper) / 2)


@translates("elu")
def _elu(c: Capture, out: Shape, x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise Untranslated
    return c.pointwise(x, "elu")


@translates("celu")
def _celu(c: Capture, out: Shape, x: Any, alpha: float = 1.0) -> Any:
    if alpha != 1:
        raise Untranslated
    return c.pointwise(x, "celu")


@translates("threshold")
def _threshold(c: Capture, out: Shape, x: Any, threshold: float, value: float) -> Any:
    if (threshold, value) != (0, 0):
        raise Untranslated
    return c.pointwise(x, "relu")


@translates("hardtanh")
def _hardtanh(c: Capture, out: Shape, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    return clip(c, out, x, low, high)


@translates("clamp", "clamp_min", "clip")
def clip(c: Capture, out: Shape, x: Any, min: float | None = None, max: float | None = None) -> Any:
    known: dict[tuple[float | None, float | None], str] = {(0, 6): "relu6", (-1, 1): "hardtanh", (0, None): "relu"}
    named = known.get((min, max))
    if named is not None:
        return c.pointwise(x, named)
    x = c.value(x)
    bounds = {name: float(value) for name, value in (("low", min), ("high", max)) if value is not None}
    return c.op("clip", (x,), x.shape, **bounds)


@translates("prelu", "_prelu_kernel")
def _prelu(c: Capture, out: Shape, x: Any, weight: Any) -> Any:
    if not c.is_plain(weight):
        raise Untranslated
    return c.op("pointwise", (x,), x.shape, {"weight": weight.tensor}, function="prelu")


@translates("glu")
def _glu(c: Capture, out: Shape, x: Any, axis: int = -1) -> Any:
    half = x.shape[axis] // 2
    return mul(c, c.slice(x, axis, 0, half), c.pointwise(c.slice(x, axis, half, 2 * half), "sigmoid"))


@translates("neg", "negative")
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


@translates("sub", "subtract")
def _sub(c: Capture, out: Shape, x: Any, y: Any, alpha: float = 1) -> Any:
    return add(c, x, y, -alpha)


@translates("rsub")
def _rsub(c: Capture, out: Shape, x: Any, y: Any, alpha: float = 1) -> Any:
    return add(c, y, x, -alpha)


@translates("mul", "multiply")
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


@translates("div", "divide", "true_divide")
def _div(c: Capture, out: Shape, x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise Untranslated
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


@translates("matmul", "bmm", "mm")
def _matmul(c: Capture, out: Shape, x: Any, y: Any) -> Any:
    layer = layer_of(c, y, None)
    return matmul(c, x, y) if layer is None or not isinstance(x, Value) else apply_layer(c, x, layer)


@translates("addmm")
def _addmm(c: Capture, out: Shape, bias: Any, x: Any, y: Any, beta: float = 1, alpha: float = 1) -> Any:
    layer = layer_of(c, y, bias) if (beta, alpha) == (1, 1) and isinstance(x, Value) else None
    if layer is not None:
        return apply_layer(c, x, layer)
    product = matmul(c, x, y)
    return add(c, c.scalar(product, alpha) if alpha != 1 else product, bias, beta)


def matmul(c: Capture, x: Any, y: Any) -> Any:
    if len(x.shape) < 2 or len(y.shape) < 2:
        raise Untranslated
    shape = [*_broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]]
    return c.op("matmul", (x, y), shape, shape=shape)


def layer_of(c: Capture, weight: Any, bias: Any) -> tuple[Parameter, Any, int] | None:
    """(matrix, bias, its axis of outputs) where x @ weight + bias is a linear layer whose tensors can be named."""
    turned = c.transposed(weight)
    plain = turned if turned is not None else weight
    if not c.is_plain(plain) or not plain.trained or len(plain.shape) != 2:
        return None
    out_axis = 0 if turned is not None else 1
    if bias is not None and (not c.is_plain(bias) or bias.shape != (plain.shape[out_axis],)):
        return None
    return plain, bias, out_axis


def apply_layer(c: Capture, x: Any, layer: tuple[Parameter, Any, int]) -> Any:
    weight, bias, out_axis = layer
    if x.shape[-1] != weight.shape[1 - out_axis]:
        raise Untranslated
    roles = {"weight": weight.tensor} | ({"bias": bias.tensor} if bias is not None else {})
    shape = (*x.shape[:-1], weight.shape[out_axis])
    return c.op("linear", (x,), shape, roles, out_axis=out_axis, in_axis=1 - out_axis)


def _broadcast(left: Sequence[int], right: Sequence[int]) -> Shape:
    rank = max(len(left), len(right))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (left, right))
    if any(n != m and 1 not in (n, m) for n, m in zip(a, b, strict=True)):
        raise Untranslated
    return tuple(n if m == 1 else m for n, m in zip(a, b, strict=True))


def _vector_axis(p: Any, rank: int) -> int | None:
    """The axis of a value of `rank` axes that a parameter is spread along; None unless it is a vector."""
    if not isinstance(p, Parameter) or not p.trained or len(p.shape) > rank:
        return None
    long = [axis - len(p.shape) for axis, n in enumerate(p.shape) if n != 1]
    return long[0] % rank if len(long) == 1 else None
