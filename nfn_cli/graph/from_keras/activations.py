"""graph/from_keras/activations.py: activations of Keras, as settings of a layer and as layers, in nodes of ONNX.

Formulas: keras/src/activations/activations.py. Keras 2 has another hard_sigmoid: 0.2x + 0.5, cut to [0, 1].
"""

from __future__ import annotations

from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call, Layer, is_of_keras
from nfn_cli.graph.from_keras.registry import LAYERS, layer, one

_NODES = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "selu": "Selu",
    "elu": "Elu",
    "exponential": "Exp",
    "mish": "Mish",
    "log_sigmoid": "LogSigmoid",
}
_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")  # that stand for activations without weights


def activated(builder: Builder, call: Call, x: Value, setting: str = "activation") -> Value:
    """What the layer's own activation makes of its value: a function by its name, or a layer."""
    said = call.layer.settings.get(setting)
    if isinstance(said, dict) and isinstance(said.get("config"), dict):
        own = Layer(str(said.get("class_name")), str(said.get("module") or ""), said["config"], call.layer.path, ())
        if own.kind not in _LAYERS or not is_of_keras(own):
            return builder.node(f"keras.{own.kind}", [x], x.rank, call.layer.path[-1])
        return LAYERS[own.kind](builder, Call(own, ()), [x])
    # Keras 3 writes functions that are not its own as {"class_name": "function", "config": name}
    name = said.get("config") if isinstance(said, dict) else said
    return function(builder, call, x, "linear" if name is None else str(name))


def function(builder: Builder, call: Call, x: Value, name: str) -> Value:
    """One of Keras' functions by its name; one that is not known is opaque, and its layer is not."""
    if name == "linear":
        return x
    if name in _NODES:
        return builder.node(_NODES[name], [x], x.rank)
    if name == "relu6":
        return _clipped(builder, x, 0.0, 6.0)
    if name in ("swish", "silu"):
        return builder.node("Mul", [x, builder.node("Sigmoid", [x], x.rank)], x.rank)
    if name in ("hard_sigmoid", "hard_swish", "hard_silu"):
        slope = 1 / 6 if call.layer.module or name != "hard_sigmoid" else 0.2
        gate = builder.node("HardSigmoid", [x], x.rank, alpha=slope, beta=0.5)
        return gate if name == "hard_sigmoid" else builder.node("Mul", [x, gate], x.rank)
    if name == "leaky_relu":
        return builder.node("LeakyRelu", [x], x.rank, alpha=0.2)
    if name == "gelu":
        return builder.node("Gelu", [x], x.rank, approximate="none")
    if name in ("softmax", "log_softmax"):
        return builder.node("Softmax" if name == "softmax" else "LogSoftmax", [x], x.rank, axis=1)
    return builder.node(f"keras.activations.{name}", [x], x.rank, call.layer.path[-1])


def _clipped(builder: Builder, x: Value, low: float, high: float) -> Value:
    return builder.node("Clip", [x, builder.constant(low), builder.constant(high)], x.rank)


@layer("Activation")
def _activation(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    return activated(builder, call, one(inputs))


@layer("ReLU")
def _relu(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    settings, x = call.layer.settings, one(inputs)
    largest, slope = settings.get("max_value"), settings.get("negative_slope") or 0.0
    if settings.get("threshold"):
        raise Unsaid
    if largest is None:
        return (
            builder.node("LeakyRelu", [x], x.rank, alpha=float(slope)) if slope else builder.node("Relu", [x], x.rank)
        )
    if slope:
        raise Unsaid
    return _clipped(builder, x, 0.0, float(largest))


@layer("LeakyReLU")
def _leaky_relu(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    settings, x = call.layer.settings, one(inputs)
    slope = settings.get("negative_slope", settings.get("alpha", 0.3))
    return builder.node("LeakyRelu", [x], x.rank, alpha=float(slope))


@layer("ELU")
def _elu(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    return builder.node("Elu", [one(inputs)], inputs[0].rank, alpha=float(call.layer.settings.get("alpha", 1.0)))


@layer("PReLU")
def _prelu(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x, slopes = one(inputs), builder.needed(call.layer, "alpha", "weight")
    count = len(builder.shape(slopes))
    if count != x.axes - 1:
        raise Unsaid
    turned = slopes if count == 1 else builder.permuted(slopes, [count - 1, *range(count - 1)])
    return builder.node("PRelu", [x, turned], x.rank)


@layer("Softmax")
def _softmax(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    if call.layer.settings.get("axis", -1) not in (-1, x.axes - 1):
        raise Unsaid
    return builder.node("Softmax", [x], x.rank, axis=1)
