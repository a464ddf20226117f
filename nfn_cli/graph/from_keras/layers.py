"""graph/from_keras/layers.py: a Keras model in nodes of ONNX: every call by the table, what is not in it as a node nobody knows."""

from __future__ import annotations

import re

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.onnx_graph import Dims, OnnxGraph
from nfn_cli.graph.from_keras import activations, merging, shaping, weighted  # noqa: F401 — they fill the table
from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call, Layer, NoGraph, Plan, Reference
from nfn_cli.graph.from_keras.registry import LAYERS
from nfn_cli.graph.from_keras.windows import changes_nothing

# what only prepares an input is taken as the input; elsewhere such layers are not known
_AHEAD = re.compile(r"Lambda|(TF|Slicing)OpLambda|Resizing|CenterCrop|Normalization")


def onnx_graph(plan: Plan, checkpoint: Checkpoint) -> OnnxGraph:
    """The model in nodes of ONNX, every value channels first.

    Raises:
        NoGraph: weights are missing, or the shape of an input cannot be told.
    """
    return _Walk(plan, Builder(checkpoint)).graph()


class _Walk:
    def __init__(self, plan: Plan, builder: Builder) -> None:
        self.plan, self.builder = plan, builder
        self.inputs: dict[str, Dims] = {}
        self.ahead: dict[str, Dims] = {}  # inputs, and what they are where they were only scaled
        self.values: dict[Reference, Value] = {}

    def graph(self) -> OnnxGraph:
        for number, said in enumerate(self.plan.inputs):
            self.values["input", number] = self._fed(_channels_first(said or self._read_shape(number)))
        for number, call in enumerate(self.plan.calls):
            inputs = [self.values[reference] for reference in call.inputs]
            self.values["call", number] = self._made(call, inputs)
        return self.builder.graph(self.inputs, [self.values[reference] for reference in self.plan.outputs])

    def _fed(self, dims: Dims) -> Value:
        name = f"input:{len(self.inputs)}"
        self.inputs[name] = self.ahead[name] = ("batch", *dims[1:])
        return Value(name, len(dims))

    def _made(self, call: Call, inputs: list[Value]) -> Value:
        known, start = LAYERS.get(_kind(call.layer)), len(self.builder.nodes)
        if changes_nothing(call.layer.kind) and len(inputs) == 1:
            return inputs[0]
        try:
            if known is None or call.layer.settings.get("data_format") == "channels_first":
                raise Unsaid
            made = known(self.builder, call, inputs)
            if call.layer.kind in ("Rescaling", "Normalization") and inputs[0].name in self.ahead:
                self.ahead[made.name] = self.ahead[inputs[0].name]
            return made
        except (Unsaid, KeyError, TypeError, ValueError):
            del self.builder.nodes[start:]
        if _AHEAD.fullmatch(call.layer.kind) and len(inputs) == 1 and inputs[0].name in self.ahead:
            dims, said = self.ahead[inputs[0].name], call.layer.settings
            if call.layer.kind in ("Resizing", "CenterCrop"):
                dims = (*dims[:2], said.get("height"), said.get("width"))
            return self._fed(dims)
        # every tensor of the layer stands in the node, and is frozen with what it reads
        own = self.builder.tensors_of(call.layer)
        rank = len(call.shape) if call.shape else None
        made = self.builder.node(f"keras.{call.layer.kind}", [*inputs, *own], rank, call.layer.path[-1])
        if call.shape:
            self.builder.dims[made.name] = ("batch", *_channels_first(call.shape)[1:])
        return made

    def _read_shape(self, number: int) -> Dims:
        """The shape of an input, channels last, as the first layer with weights that reads it needs it; lengths stay open."""
        value: Reference = ("input", number)
        for position, call in enumerate(self.plan.calls):
            if value in call.inputs:
                kernel = self.builder.tensor(call.layer, "kernel", "depthwise_kernel")
                if kernel is not None:
                    shape = self.builder.shape(kernel)
                    return (None, *([None] * (len(shape) - 2)), shape[-2])
                value = ("call", position)
        raise NoGraph


def _channels_first(shape: Dims) -> Dims:
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape


def _kind(layer: Layer) -> str:
    """Functions that Keras calls as layers go by where they are from."""
    if layer.module.startswith("keras.src.ops."):
        return f"ops.{layer.kind}"
    return f"{layer.kind}.{layer.settings.get('function')}" if layer.kind == "TFOpLambda" else layer.kind
