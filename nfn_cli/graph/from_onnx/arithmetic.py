"""graph/from_onnx/arithmetic.py: ONNX nodes that combine and reduce: sums, products, powers, bounds, means, softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from nfn_cli.graph.from_onnx.capture import Capture, Entry, Untranslated, Value, View
from nfn_cli.graph.from_onnx.registry import Call, translates

_LARGEST_POWER = 8
# a bound that large is none: exporters write the ends of float32 for "no bound"
_NO_BOUND = 3.0e38


def _number(c: Capture, entry: Entry, other: Entry) -> float | None:
    """The entry as a number, where multiplying or adding it changes no shape."""
    return c.number(entry) if len(entry.shape) <= len(other.shape) else None


@translates("Add", "Sum")
def _add(call: Call) -> Value:
    total = call[0]
    for position in range(1, len(call.inputs)):
        total = _sum(call.c, total, call[position])
    return call.c.value(total)


def _sum(c: Capture, x: Entry, y: Entry) -> Value:
    if not isinstance(x, Value):
        x, y = y, x
    number = None if isinstance(y, View) and _fits_as_bias(c, x, y) else _number(c, y, x)
    return c.scalar(x, 1.0, number) if number is not None else c.add(x, y)


def _fits_as_bias(c: Capture, x: Entry, y: View) -> bool:
    """A layer of one unit may have a bias of one entry; `biases` makes it one."""
    maker = c.maker(x)
    return maker is not None and maker.kind in ("linear", "conv") and "bias" not in maker.parameters and y.shape != ()


@translates("Sub")
def _sub(call: Call) -> Value:
    c, x, y = call.c, call[0], call[1]
    number = _number(c, y, x)
    if number is not None:
        return c.scalar(x, 1.0, -number)
    number = _number(c, x, y)
    return c.scalar(y, -1.0, number) if number is not None else c.add(x, c.scalar(y, -1.0))


@translates("Neg")
def _neg(call: Call) -> Value:
    return call.c.scalar(call[0], -1.0)


@translates("Mul")
def _mul(call: Call) -> Value:
    c, x, y = call.c, call[0], call[1]
    if not isinstance(x, Value):
        x, y = y, x
    number = _number(c, y, x)
    return c.scalar(x, number) if number is not None else c.mul(x, y)


@translates("Div")
def _div(call: Call) -> Value:
    c, x, y = call.c, call[0], call[1]
    number = _number(c, y, x)
    if number:
        return c.scalar(x, 1.0 / number)
    inverse = c.pointwise(y, "reciprocal")
    number = _number(c, x, y)
    return c.scalar(inverse, number) if number is not None else c.mul(x, inverse)


@translates("Pow")
def _pow(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    exponent = _number(c, call[1], x)
    functions = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", 1: "identity"}
    if exponent in functions:
        return c.pointwise(x, functions[exponent])
    if exponent is None or exponent != int(exponent) or not 2 < exponent <= _LARGEST_POWER:
        raise Untranslated
    return c.op("mul", [x] * int(exponent), x.shape)


@translates("Mean")
def _mean(call: Call) -> Value:
    return call.c.scalar(_add(call), 1.0 / len(call.inputs))


@translates("Max", "Min")
def _bound(call: Call) -> Value:
    """The larger (smaller) of a value and a number; of two values there is no word."""
    c = call.c
    x, y = (call[0], call[1]) if len(call.inputs) == 2 else (_none(), _none())
    if not isinstance(x, Value):
        x, y = y, x
    number = _number(c, y, x)
    if number is None:
        raise Untranslated
    return clipped(c, x, number, None) if call.node.kind == "Max" else clipped(c, x, None, number)


def _none() -> Any:
    raise Untranslated


@translates("Clip")
def _clip(call: Call) -> Value:
    bounds = []
    for position, name in ((1, "min"), (2, "max")):
        given = call.node.attributes.get(name)
        entry = call.get(position)
        if given is None and entry is not None:
            array = call.c.numbers(entry)
            if array is None or array.size != 1 or np.isnan(array).any():
                raise Untranslated
            given = float(np.asarray(array, np.float64).reshape(-1)[0])
        bounds.append(None if given is None or abs(given) > _NO_BOUND else float(given))
    return clipped(call.c, call[0], *bounds)


def clipped(c: Capture, x: Entry, low: float | None, high: float | None) -> Value:
    x = c.value(x)
    known: dict[Any, str] = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hardtanh", (0.0, None): "relu"}
    if (low, high) == (None, None):
        return x
    if (low, high) in known:
        return c.pointwise(x, known[low, high])
    bounds = {name: bound for name, bound in (("low", low), ("high", high)) if bound is not None}
    return c.op("clip", (x,), x.shape, **bounds)


@translates("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    axis = call.axis(int(call.attribute("axis", -1 if c.opset >= 13 else 1)))
    if c.opset < 13 and prod(x.shape[axis + 1 :]) != 1:
        raise Untranslated  # one softmax over all axes from there on
    if call.node.kind == "Softmax":
        return c.op("softmax", (x,), x.shape, axis=axis, shape=list(x.shape))
    largest = reduced(c, x, [axis], True, "max")
    centred = c.add(x, c.scalar(largest, -1.0))
    total = reduced(c, c.pointwise(centred, "exp"), [axis], True, "sum")
    return c.add(centred, c.scalar(c.pointwise(total, "log"), -1.0))


def reduced(c: Capture, x: Value, axes: Sequence[int], keep: bool, statistic: str) -> Any:
    """Axes reduced to length 1, and left out unless they are kept."""
    rank = len(x.shape)
    kept = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    if statistic == "mean" and rank > 2 and list(axes) == list(range(2, rank)):
        out = c.op("pool", (x,), kept, size=kept[2:], statistic="average")
    else:
        out = c.op("reduce", (x,), kept, axes=list(axes), statistic=statistic)
    return out if keep else c.reshape(out, [n for axis, n in enumerate(x.shape) if axis not in axes])


_STATISTICS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceL2": "norm",
    "ReduceL1": "sum",
    "ReduceSumSquare": "sum",
}


@translates(*_STATISTICS)
def _reduce(call: Call) -> Any:
    c, x, kind = call.c, call.c.value(call[0]), call.node.kind
    given = call.integers(1, "axes")
    if not given and call.attribute("noop_with_empty_axes", 0):
        return x
    axes = sorted({call.axis(axis) for axis in given or range(len(x.shape))})
    if kind in ("ReduceL1", "ReduceSumSquare"):
        x = c.pointwise(x, "abs" if kind == "ReduceL1" else "square")
    return reduced(c, x, axes, bool(call.attribute("keepdims", 1)), _STATISTICS[kind])


@translates("GlobalLpPool")
def _global_norm(call: Call) -> Any:
    x = call.c.value(call[0])
    if int(call.attribute("p", 2)) != 2:
        raise Untranslated
    return reduced(call.c, x, list(range(2, len(x.shape))), True, "norm")
