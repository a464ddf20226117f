"""graph/from_keras/layers.py: a Keras model in nodes of ONNX: every call by the table, what is not in it as a node nobody knows."""

from __future__ import annotations

import re

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.keras_config import IN_TRAINING_ONLY, PREPARING
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.onnx_graph import Dims, OnnxGraph
from nfn_cli.graph.from_keras import activations, merging, shaping, weighted, windows  # noqa: F401 — they fill the table
from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call, Layer, NoGraph, Plan, Reference, is_of_keras
from nfn_cli.graph.from_keras.registry import LAYERS, WITH_ARGUMENTS

_CHANGE_NOTHING = re.compile(
    rf"{IN_TRAINING_ONLY}|FixedDropout|StochasticDepth|Identity|"
    r"Random(Flip|Rotation|Zoom|Translation|Contrast|Brightness|Crop|Shear|Hue|Saturation|ColorJitter|Erasing)"
)
# what only prepares an input is taken as the input; elsewhere such layers are not known
_AHEAD = re.compile(PREPARING)


def onnx_graph(plan: Plan, checkpoint: Checkpoint, longest: int | None = None) -> OnnxGraph:
    """The model in nodes of ONNX, every value channels first.

    Args:
        longest: what a longer side of a picture is taken to be: no symmetry depends on it, and the check of it takes the time.

    Raises:
        NoGraph: weights are missing, or the shape of an input cannot be told.
    """
    return _Walk(plan, Builder(checkpoint), longest).graph()


class _Walk:
    def __init__(self, plan: Plan, builder: Builder, longest: int | None) -> None:
        self.plan, self.builder, self.longest = plan, builder, longest
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
        if self.longest is not None:
            dims = (*dims[:2], *(min(n, self.longest) if isinstance(n, int) else n for n in dims[2:]))
        self.inputs[name] = self.ahead[name] = ("batch", *dims[1:])
        return Value(name, len(dims))

    def _made(self, call: Call, inputs: list[Value]) -> Value:
        kind, start = _kind(call.layer), len(self.builder.nodes)
        if _CHANGE_NOTHING.fullmatch(kind) and len(inputs) == 1 and not call.arguments:
            return inputs[0]
        try:
            made = self._known(kind, call, inputs)
            if kind in ("Rescaling", "Normalization") and inputs[0].name in self.ahead:
                self.ahead[made.name] = self.ahead[inputs[0].name]
            return made
        except (Unsaid, KeyError, TypeError, ValueError):
            del self.builder.nodes[start:]
        if _AHEAD.fullmatch(call.layer.kind) and len(inputs) == 1 and inputs[0].name in self.ahead:
            dims, said = self.ahead[inputs[0].name], call.layer.settings
            if kind in ("Resizing", "CenterCrop"):
                dims = (*dims[:2], said.get("height"), said.get("width"))
            return self._fed(dims)
        # every tensor of the layer stands in the node, and is frozen with what it reads
        rank = len(call.shape) if call.shape else None
        parts: list[str | Value] = [*inputs, *self.builder.tensors_of(call.layer)]
        made_by = "keras" if is_of_keras(call.layer) else call.layer.module
        made = self.builder.node(f"{made_by}.{call.layer.kind}", parts, rank, call.layer.path[-1])
        if call.shape:
            self.builder.dims[made.name] = ("batch", *_channels_first(call.shape)[1:])
        return made

    def _known(self, kind: str, call: Call, inputs: list[Value]) -> Value:
        """Raises Unsaid for a layer, or a use of it, that is not in the table."""
        start, known = len(self.builder.nodes), LAYERS.get(kind)
        if known is None or call.layer.settings.get("data_format") == "channels_first":
            raise Unsaid
        if call.arguments and kind not in WITH_ARGUMENTS:
            raise Unsaid
        made = known(self.builder, call, inputs)
        read = {name for node in self.builder.nodes[start:] for name in node.inputs}
        own = self.builder.tensors_of(call.layer, read)
        own = [name for name in own if is_floating(self.builder.tensors[name].dtype)]
        if kind != "Normalization" and not read.issuperset(own):
            raise Unsaid  # a layer that was made from more than its class says: adapters, scales of quantized kernels
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
    """What the table knows a layer by: functions that Keras calls as layers by where they are from, strangers by no name in it."""
    if layer.module.startswith("keras.src.ops."):
        return f"ops.{layer.kind}"
    if not is_of_keras(layer):
        return f"{layer.module}.{layer.kind}"
    return f"{layer.kind}.{layer.settings.get('function')}" if layer.kind == "TFOpLambda" else layer.kind
