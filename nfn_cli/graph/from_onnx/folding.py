"""graph/from_onnx/folding.py: arithmetic on numbers that stand in the graph (shapes, mostly), done while reading it.

Only small results are computed; the table holds what exporters write around shapes and factors. No node is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.graph.from_onnx.capture import LARGEST_CONSTANT, Untranslated

# arithmetic of numbers; what a lone entry of the checkpoint may take part in
ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda x, y: _quotient(x, y),
    "Mod": np.mod,
    "Pow": np.power,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Log": np.log,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Not": np.logical_not,
    "Where": np.where,
}


def folded(kind: str, attributes: Mapping[str, Any], inputs: Sequence[Array | None], opset: int) -> Array | None:
    """The result of a node whose inputs are all numbers; None where it is none of the table.

    Raises:
        Untranslated: it is too large, or numpy refuses it.
    """
    try:
        with np.errstate(all="ignore"):
            if kind in ARITHMETIC:
                arrays = [array for array in inputs if array is not None]
                _bounded(np.broadcast_shapes(*(array.shape for array in arrays)))
                return np.asarray(ARITHMETIC[kind](*arrays))
            found = _STRUCTURE.get(kind)
            return None if found is None else np.asarray(found(attributes, inputs, opset))
    except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError):
        raise Untranslated from None


def _quotient(x: Array, y: Array) -> Array:
    """Integers are divided towards zero."""
    if np.issubdtype(np.result_type(x, y), np.integer):
        return np.asarray(np.sign(x) * np.sign(y) * np.floor_divide(np.abs(x), np.abs(y)))
    return np.asarray(np.divide(x, y))


def _bounded(shape: Iterable[Any]) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in shape)
    if prod(sizes) > LARGEST_CONSTANT or min(sizes, default=0) < 0:
        raise Untranslated
    return sizes


def _axes(attributes: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[int] | None:
    if "axes" in attributes:
        return [int(axis) for axis in attributes["axes"]]
    array = inputs[1] if len(inputs) > 1 else None
    return None if array is None else [int(axis) for axis in array.reshape(-1)]


def _some(array: Array | None) -> Array:
    if array is None:
        raise Untranslated
    return array


def _squeeze(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    axes = _axes(attributes, inputs)
    return np.squeeze(_some(inputs[0]), None if axes is None else tuple(axes))


def _unsqueeze(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    return np.expand_dims(_some(inputs[0]), tuple(_axes(attributes, inputs) or ()))


def _slice(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    x = _some(inputs[0])
    arrays: list[Any] = [None if a is None else a.reshape(-1).tolist() for a in inputs[1:]]
    arrays += [None] * (4 - len(arrays))
    names = ("starts", "ends", "axes")
    starts, stops, axes = (attributes.get(name, array) for name, array in zip(names, arrays, strict=False))
    window = [slice(None)] * x.ndim
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        window[axes[i] if axes else i] = slice(start, stop, arrays[3][i] if arrays[3] else 1)
    return x[tuple(window)]


def _range(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    start, stop, step = (_some(array).reshape(-1)[0] for array in inputs[:3])
    _bounded([max(0, int(np.ceil((float(stop) - float(start)) / float(step))))])
    return np.arange(start, stop, step)


def _filled(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    value = np.asarray(attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
    return np.full(_bounded(_some(inputs[0]).reshape(-1)), value[0], value.dtype)


def _expand(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    x = _some(inputs[0])
    return np.broadcast_to(x, _bounded(np.broadcast_shapes(x.shape, _bounded(_some(inputs[1]).reshape(-1)))))


def _tile(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    x, times = _some(inputs[0]), _some(inputs[1]).reshape(-1)
    _bounded([n * int(t) for n, t in zip(x.shape, times, strict=True)])
    return np.tile(x, times)


def _reshape(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    x, wanted = _some(inputs[0]), _some(inputs[1]).reshape(-1).tolist()
    return x.reshape([x.shape[i] if n == 0 and i < x.ndim else n for i, n in enumerate(wanted)])


def _cast(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
    from onnx import helper

    try:
        return _some(inputs[0]).astype(helper.tensor_dtype_to_np_dtype(int(attributes["to"])))
    except KeyError:
        raise Untranslated from None


def _reduce(statistic: Callable[..., Any]) -> Callable[..., Array]:
    def run(attributes: Mapping[str, Any], inputs: Sequence[Array | None], _: int) -> Array:
        axes = _axes(attributes, inputs)
        axis = None if axes is None else tuple(axes)
        return np.asarray(statistic(_some(inputs[0]), axis=axis, keepdims=bool(attributes.get("keepdims", 1))))

    return run


_STRUCTURE: Mapping[str, Callable[[Mapping[str, Any], Sequence[Array | None], int], Any]] = {
    "Identity": lambda a, xs, _: xs[0],
    "Shape": lambda a, xs, _: np.array(_some(xs[0]).shape[a.get("start", 0) : a.get("end")], np.int64),
    "Size": lambda a, xs, _: np.array(_some(xs[0]).size, np.int64),
    "Gather": lambda a, xs, _: np.take(_some(xs[0]), _some(xs[1]).astype(np.int64), axis=int(a.get("axis", 0))),
    "Concat": lambda a, xs, _: np.concatenate([_some(x) for x in xs], axis=int(a["axis"])),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Range": _range,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Tile": _tile,
    "Reshape": _reshape,
    "Flatten": lambda a, xs, _: _some(xs[0]).reshape(prod(_some(xs[0]).shape[: int(a.get("axis", 1))]), -1),
    "Transpose": lambda a, xs, _: np.transpose(_some(xs[0]), a.get("perm")),
    "Cast": _cast,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "NonZero": lambda a, xs, _: np.array(np.nonzero(_some(xs[0]))),
}
