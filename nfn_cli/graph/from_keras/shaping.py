"""graph/from_keras/shaping.py: layers that give values another shape. What they say counts channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call
from nfn_cli.graph.from_keras.registry import layer, one


@layer("Flatten")
def _flatten(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    return builder.node("Flatten", [builder.channels_last(one(inputs))], 2, axis=1)


@layer("Reshape")
def _reshape(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    target = [int(n) for n in call.layer.settings["target_shape"]]
    shape = builder.constant([0, *target], "int64")
    made = builder.node("Reshape", [builder.channels_last(one(inputs)), shape], len(target) + 1)
    return builder.channels_first(made)


@layer("Permute")
def _permute(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    order, x = [int(n) for n in call.layer.settings["dims"]], one(inputs)
    if sorted(order) != list(range(1, x.axes)):
        raise Unsaid
    made = builder.node("Transpose", [builder.channels_last(x)], x.rank, perm=[0, *order])
    return builder.channels_first(made)


@layer("Rescaling")
def _rescaling(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x, said = one(inputs), call.layer.settings
    x = builder.node("Mul", [x, _of_channels(builder, x, said.get("scale", 1.0))], x.rank)
    return builder.node("Add", [x, _of_channels(builder, x, said.get("offset", 0.0))], x.rank)


@layer("Normalization")
def _normalization(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    """By a mean and a variance that were measured on data, or are settings; numbers that no symmetry moves."""
    x, said = one(inputs), call.layer.settings
    found = [said.get(name) for name in ("mean", "variance")]
    if found[0] is None:
        found = [builder.tensors[builder.needed(call.layer, name)] for name in ("mean", "variance")]
    if said.get("axis", -1) not in (-1, [-1], x.axes - 1, [x.axes - 1]) or said.get("invert"):
        raise Unsaid
    mean, variance = (np.asarray(numbers, np.float64).reshape(-1) for numbers in found)
    x = builder.node("Sub", [x, _of_channels(builder, x, mean.tolist())], x.rank)
    return builder.node("Div", [x, _of_channels(builder, x, np.maximum(np.sqrt(variance), 1e-7).tolist())], x.rank)


def _of_channels(builder: Builder, x: Value, numbers: Any) -> str:
    """A number for all, or one for each channel, as a constant that goes along with the value."""
    array = np.asarray(numbers, np.float64)
    return builder.constant(array if array.size == 1 else array.reshape(-1, *[1] * (x.axes - 2)), np.float64)
