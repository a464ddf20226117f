"""graph/reference_tensors.py: the evaluator's ops that move, combine and reduce whole tensors. Float64 numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.graph.reference_registry import FloatArray, Reader, evaluates


@evaluates("mul")
def _mul(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    total = inputs[0]
    for value in inputs[1:]:
        total = total * value
    return total


@evaluates("scale")
def _scale(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    factor = np.asarray(parameters[op.parameters["weight"]]).astype(np.float64).reshape(-1)
    axis = op.attributes["axis"] % x.ndim
    return x * factor.reshape([-1 if position == axis else 1 for position in range(x.ndim)])


@evaluates("scalar")
def _scalar(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.asarray(inputs[0] * op.attributes.get("multiply", 1.0) + op.attributes.get("add", 0.0))


@evaluates("normalize")
def _normalize(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    groups, shape = op.attributes.get("groups"), x.shape
    axes = tuple(op.attributes["axes"])
    if groups:
        x = x.reshape(shape[0], groups, -1)
        axes = (2,)
    centred = x - x.mean(axes, keepdims=True)
    variance = (centred**2).mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + op.attributes["eps"])).reshape(shape)


@evaluates("rms_normalize")
def _rms_normalize(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    square = (x**2).mean(tuple(op.attributes["axes"]), keepdims=True)
    return np.asarray(x / np.sqrt(square + op.attributes["eps"]))


@evaluates("parameter")
def _parameter(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.asarray(parameters[op.parameters["value"]]).astype(np.float64)


@evaluates("constant")
def _constant(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.asarray(op.attributes["value"], np.float64)


@evaluates("reshape")
def _reshape(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return inputs[0].reshape(op.attributes["shape"])


@evaluates("permute")
def _permute(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return inputs[0].transpose(op.attributes["order"])


@evaluates("expand")
def _expand(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.broadcast_to(inputs[0], op.attributes["shape"])


@evaluates("slice")
def _slice(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    at = op.attributes
    window = [slice(None)] * inputs[0].ndim
    window[at["axis"]] = slice(at["start"], at["stop"], at.get("step", 1))
    return inputs[0][tuple(window)]


@evaluates("pad")
def _pad(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    """Negative amounts crop."""
    (x,) = inputs
    before, after = op.attributes["before"], op.attributes["after"]
    crop = tuple(slice(max(0, -b), n - max(0, -a)) for n, b, a in zip(x.shape, before, after, strict=True))
    width = [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)]
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(op.attributes.get("mode", "constant"))
    if mode is not None:
        return np.pad(x[crop], width, mode=mode)  # type: ignore[call-overload, no-any-return]
    return np.pad(x[crop], width, constant_values=op.attributes.get("value", 0.0))


@evaluates("reduce")
def _reduce(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    axes, statistic = tuple(op.attributes["axes"]), op.attributes["statistic"]
    if statistic == "norm":
        return np.asarray(np.sqrt((x * x).sum(axes, keepdims=True)))
    how: Any = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "variance": np.var}[statistic]
    return np.asarray(how(x, axis=axes, keepdims=True))


@evaluates("resize")
def _resize(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    """PyTorch's `interpolate`: one matrix for each spatial axis."""
    (x,) = inputs
    for axis, target in enumerate(op.attributes["size"], start=2):
        n = x.shape[axis]
        matrix = np.zeros((target, n))
        if op.attributes["mode"] == "nearest":
            matrix[np.arange(target), np.arange(target) * n // target] = 1.0
        else:
            if op.attributes.get("align_corners"):
                place = np.arange(target) * ((n - 1) / max(1, target - 1))
            else:
                place = np.maximum((np.arange(target) + 0.5) * n / target - 0.5, 0.0)
            low = np.minimum(place.astype(np.int64), n - 1)
            part = place - low
            np.add.at(matrix, (np.arange(target), low), 1 - part)
            np.add.at(matrix, (np.arange(target), np.minimum(low + 1, n - 1)), part)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


@evaluates("softmax")
def _softmax(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    axis = op.attributes["axis"]
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


@evaluates("matmul")
def _matmul(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.asarray(np.matmul(inputs[0], inputs[1]))


@evaluates("clip")
def _clip(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.clip(inputs[0], op.attributes.get("low"), op.attributes.get("high"))
