"""graph/from_keras/windows.py: pooling, padding, cropping and upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call
from nfn_cli.graph.from_keras.registry import each, layer, one

_SIZES = ("1D", "2D", "3D")


@layer(*(f"{kind}{name}{size}" for kind in ("Max", "Average") for name in ("Pooling", "Pool") for size in _SIZES))
def _pool(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    settings, x = call.layer.settings, one(inputs)
    kernel = each(settings.get("pool_size", 2), x.axes - 2)
    stride = each(settings["strides"], x.axes - 2) if settings.get("strides") is not None else kernel
    kind = "MaxPool" if call.layer.kind.startswith("Max") else "AveragePool"
    pad = {"same": "SAME_UPPER", "valid": "VALID"}[str(settings.get("padding", "valid"))]
    return builder.node(kind, [x], x.rank, kernel_shape=kernel, strides=stride, auto_pad=pad)


@layer(*(f"Global{kind}{name}{size}" for kind in ("Max", "Average") for name in ("Pooling", "Pool") for size in _SIZES))
def _global_pool(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    made = builder.node("GlobalMaxPool" if "Max" in call.layer.kind else "GlobalAveragePool", [x], x.rank)
    if call.layer.settings.get("keepdims"):
        return made
    return builder.node("Flatten", [made], 2, axis=1)


def _sides(said: Any, axes: int) -> list[tuple[int, int]]:
    """Before and after for each axis: one number for all, one for each axis, or a pair for each."""
    if isinstance(said, int):
        said = [said] * axes
    if axes == 1 and all(isinstance(n, int) for n in said):
        said = [said] if len(said) == 2 else [[said[0], said[0]]]
    pairs = [[n, n] if isinstance(n, int) else list(n) for n in said]
    if len(pairs) != axes or any(len(pair) != 2 or any(type(n) is not int or n < 0 for n in pair) for pair in pairs):
        raise Unsaid
    return [(before, after) for before, after in pairs]


@layer(*(f"ZeroPadding{size}" for size in _SIZES))
def _padding(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    sides = _sides(call.layer.settings["padding"], x.axes - 2)
    return _padded(builder, x, sides)


@layer(*(f"Cropping{size}" for size in _SIZES))
def _cropping(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    sides = _sides(call.layer.settings["cropping"], x.axes - 2)
    return _padded(builder, x, [(-before, -after) for before, after in sides])


def _padded(builder: Builder, x: Value, sides: Sequence[tuple[int, int]]) -> Value:
    amounts = [0, 0, *(before for before, _ in sides), 0, 0, *(after for _, after in sides)]
    return builder.node("Pad", [x, builder.constant(amounts, "int64")], x.rank)


@layer(*(f"UpSampling{size}" for size in _SIZES))
def _upsampling(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    settings, x = call.layer.settings, one(inputs)
    factors = each(settings.get("size", 2), x.axes - 2)
    how = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }[str(settings.get("interpolation", "nearest"))]
    scales = builder.constant([1.0, 1.0, *map(float, factors)])
    return builder.node("Resize", [x, "", scales], x.rank, **how)
