"""graph/from_onnx/pointwise.py: ONNX nodes that act on every entry alone, and those that change nothing."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nfn_cli.graph.from_onnx.arithmetic import clipped
from nfn_cli.graph.from_onnx.capture import Capture, Entry, Untranslated, Value, View, vector_axis
from nfn_cli.graph.from_onnx.registry import Call, translates

_FUNCTIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Erf": "erf",
    "Abs": "abs",
    "Sin": "sin",
    "Cos": "cos",
    "Atan": "arctan",
    "Asinh": "asinh",
    "HardSwish": "hardswish",
    "Mish": "mish",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
}
_FLOATS = (1, 10, 11, 16)  # TensorProto: float, float16, double, bfloat16
_SELU = (1.6732632423543772, 1.0507009873554805)


@translates(*_FUNCTIONS)
def _function(call: Call) -> Value:
    function = _FUNCTIONS[call.node.kind]
    # the frequency is stated even where it is 1: without it no phase shift is claimed
    return call.c.pointwise(call[0], function, **({"omega": 1.0} if function in ("sin", "cos") else {}))


@translates("LeakyRelu")
def _leaky(call: Call) -> Value:
    return call.c.pointwise(call[0], "leaky_relu", slope=float(call.attribute("alpha", 0.01)))


@translates("Gelu", "com.microsoft.Gelu", "com.microsoft.FastGelu")
def _gelu(call: Call) -> Value:
    if len(call.inputs) > 1:
        raise Untranslated
    tanh = call.attribute("approximate", "none") == "tanh" or call.node.kind.endswith("FastGelu")
    return call.c.pointwise(call[0], "gelu_tanh" if tanh else "gelu")


@translates("Elu")
def _elu(call: Call) -> Value:
    return _exponential(call.c, call[0], float(call.attribute("alpha", 1.0)), 1.0)


@translates("Celu")
def _celu(call: Call) -> Value:
    alpha = float(call.attribute("alpha", 1.0))
    return _exponential(call.c, call[0], alpha, alpha)


@translates("Selu")
def _selu(call: Call) -> Value:
    c, alpha, gamma = call.c, float(call.attribute("alpha", _SELU[0])), float(call.attribute("gamma", _SELU[1]))
    if abs(alpha - _SELU[0]) < 1e-6 and abs(gamma - _SELU[1]) < 1e-6:
        return c.pointwise(call[0], "selu")
    return c.scalar(_exponential(c, call[0], alpha, 1.0), gamma)


def _exponential(c: Capture, x: Entry, alpha: float, width: float) -> Value:
    """max(x, 0) + alpha (exp(min(x, 0) / width) − 1)."""
    if (alpha, width) == (1.0, 1.0):
        return c.pointwise(x, "elu")
    if not width:
        raise Untranslated
    x = c.value(x)
    below = c.pointwise(c.scalar(clipped(c, x, None, 0.0), 1.0 / width), "exp")
    return c.add(c.pointwise(x, "relu"), c.scalar(below, alpha, -alpha))


@translates("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    c, alpha, beta = call.c, float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return c.pointwise(call[0], "hardsigmoid")
    return clipped(c, c.scalar(call[0], alpha, beta), 0.0, 1.0)


@translates("Swish")
def _swish(call: Call) -> Value:
    c, x, alpha = call.c, call.c.value(call[0]), float(call.attribute("alpha", 1.0))
    return c.pointwise(x, "silu") if alpha == 1 else c.mul(x, c.pointwise(c.scalar(x, alpha), "sigmoid"))


@translates("com.microsoft.QuickGelu")
def _quick_gelu(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    return c.mul(x, c.pointwise(c.scalar(x, float(call.attribute("alpha", 1.702))), "sigmoid"))


@translates("ThresholdedRelu")
def _thresholded(call: Call) -> Value:
    if float(call.attribute("alpha", 1.0)) != 0.0:
        raise Untranslated  # a jump: no formula of the vocabulary has one
    return call.c.pointwise(call[0], "relu")


@translates("PRelu")
def _prelu(call: Call) -> Value:
    """One slope, or one for each channel; any other slopes act on the negative part as factors."""
    c, x, slopes = call.c, call.c.value(call[0]), call[1]
    if isinstance(slopes, View) and len(x.shape) > 1:
        one = prod(slopes.shape) == 1
        channels = vector_axis(slopes, len(x.shape)) == 1 and prod(slopes.shape) == x.shape[1]
        if (one or channels) and len(c.tensors[slopes.tensor].shape) > 0:
            return c.op("pointwise", (x,), x.shape, {"weight": slopes.tensor}, function="prelu")
    negative = c.scalar(c.pointwise(c.scalar(x, -1.0), "relu"), -1.0)
    number = c.number(slopes)
    below = c.mul(negative, slopes) if number is None else c.scalar(negative, number)
    return c.add(c.pointwise(x, "relu"), below)


@translates("Identity")
def _identity(call: Call) -> Entry:
    return call[0]


@translates("Dropout")
def _dropout(call: Call) -> Any:
    training = call.get(2)
    if any(call.node.outputs[1:]) or (training is not None and call.c.number(training) != 0):
        raise Untranslated
    return call[0]


@translates("Cast")
def _cast(call: Call) -> Entry:
    """Between floating types only rounding changes."""
    if int(call.attribute("to", 0)) not in _FLOATS:
        raise Untranslated
    return call[0]


@translates("CastLike")
def _cast_like(call: Call) -> Entry:
    """A number, or a tensor, brought to the type of what it will be combined with."""
    x, like = call[0], call[1]
    if isinstance(x, View) and isinstance(like, (Value, View)) and call.c.floats_only:
        return x
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
        raise Untranslated
    return x.astype(like.dtype if isinstance(like, np.ndarray) else np.float64)
