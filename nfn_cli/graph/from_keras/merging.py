"""graph/from_keras/merging.py: layers that read several values, and arithmetic that Keras calls as layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nfn_cli.graph.from_keras.activations import function
from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call
from nfn_cli.graph.from_keras.registry import Translation, layer, one

_EITHER_WAY = ("Add", "Mul", "Max", "Min")


def _arithmetic(kind: str) -> Translation:
    """Values, or one value and a number: files in the form of Keras 2 call layers and functions by one name."""

    def call_of(builder: Builder, call: Call, inputs: list[Value]) -> Value:
        if not call.arguments:
            return _all_with(builder, kind, inputs)
        ((place, number),) = call.arguments
        if place not in ("behind", "y", "x2") and kind not in _EITHER_WAY:
            raise Unsaid
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not np.isfinite(number):
            raise Unsaid
        return builder.node(kind, [one(inputs), builder.constant(number)], inputs[0].rank)

    return call_of


def _all_with(builder: Builder, kind: str, inputs: Sequence[Value]) -> Value:
    """From the left; values of unlike ranks are broadcast by Keras channels last."""
    ranks = {x.axes for x in inputs}
    if len(inputs) < 2 or len(ranks) != 1:
        raise Unsaid
    made = inputs[0]
    for x in inputs[1:]:
        made = builder.node(kind, [made, x], x.rank)
    return made


_NODES = {
    "Add": ("Add", "ops.Add", "TFOpLambda.math.add", "TFOpLambda.__operators__.add"),
    "Mul": ("Multiply", "ops.Multiply", "TFOpLambda.math.multiply", "TFOpLambda.__operators__.mul"),
    "Sub": ("Subtract", "ops.Subtract", "TFOpLambda.math.subtract", "TFOpLambda.__operators__.sub"),
    "Div": ("ops.Divide", "ops.TrueDivide", "TFOpLambda.math.divide", "TFOpLambda.math.truediv"),
    "Max": ("Maximum", "ops.Maximum", "TFOpLambda.math.maximum"),
    "Min": ("Minimum", "ops.Minimum", "TFOpLambda.math.minimum"),
}
for _node, _kinds in _NODES.items():
    layer(*_kinds, arguments=True)(_arithmetic(_node))


@layer("Average")
def _average(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    total = _all_with(builder, "Add", inputs)
    return builder.node("Mul", [total, builder.constant(1 / len(inputs))], total.rank)


@layer("Concatenate", "ops.Concatenate")
def _concatenate(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    rank = inputs[0].axes
    if any(x.axes != rank for x in inputs):
        raise Unsaid
    axis = int(call.layer.settings["axis"]) % rank
    if axis == 0:
        raise Unsaid
    return builder.node("Concat", inputs, rank, axis=1 if axis == rank - 1 else axis + 1)


def _named(name: str) -> Translation:
    return lambda builder, call, inputs: function(builder, call, one(inputs), name)


for _class, _name in {"Relu": "relu", "Relu6": "relu6", "Silu": "silu", "Sigmoid": "sigmoid", "Tanh": "tanh"}.items():
    layer(_class, f"ops.{_class}", f"TFOpLambda.nn.{_name}", f"TFOpLambda.math.{_name}")(_named(_name))
