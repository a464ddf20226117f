"""graph/small_cnn.py: the network of a zoo like the Small CNN Zoo: convolutions, mean over positions, linear layers.

Unterthiner et al. 2020, "Predicting Neural Network Accuracy from Weights" (arXiv 2002.11448): every convolution is strided
and followed by the activation, then comes the mean over positions and one linear layer. Knows shapes; reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.activations import activation_name
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.printable import printable

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class LayerTensors:
    """One layer: names of its tensors, the shape of its weight, and which axes of that are output and input."""

    weight: str
    bias: str | None
    shape: tuple[int, ...]
    out_axis: int
    in_axis: int

    @property
    def size_in(self) -> int:
        return self.shape[self.in_axis]

    @property
    def size_out(self) -> int:
        return self.shape[self.out_axis]

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(size for axis, size in enumerate(self.shape) if axis not in (self.out_axis, self.in_axis))


def small_cnn_graph(layers: Sequence[LayerTensors], activation: str, stride: int, padding: int) -> Graph:
    """The graph of a chain of convolutions and linear layers, in this order.

    Where the first linear layer reads as many values as the last convolution has channels, it reads their means over
    positions; where it reads a multiple, the positions flattened, channels innermost, as Keras does.

    Raises:
        Refused: no layer, a layer that does not follow from the one below, or an unknown activation.
    """
    if not layers:
        raise Refused("a network needs a layer", code="not-a-network")
    ops: list[Op] = []

    def add(kind: str, value: str, attributes: Mapping[str, object], roles: Mapping[str, str] = _NONE) -> str:
        ops.append(Op(kind, (value,), f"v{len(ops)}", roles, attributes))
        return f"v{len(ops) - 1}"

    shapes: dict[str, tuple[int, ...]] = {}
    value, below = "x0", None
    for layer in layers:
        if below is not None and below.kernel and not layer.kernel:
            kind, attributes = _without_positions(below, layer)
            value = add(kind, value, attributes)
        elif below is not None and (below.size_out != layer.size_in or (layer.kernel and not below.kernel)):
            raise Refused(
                f"reads {layer.size_in} units, the layer below makes {below.size_out}", where=printable(layer.weight)
            )
        roles = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
        shapes[layer.weight] = layer.shape
        if layer.bias is not None:
            shapes[layer.bias] = (layer.size_out,)
        steps = {"stride": [stride] * len(layer.kernel), "padding": [padding] * len(layer.kernel)}
        axes: dict[str, object] = {"out_axis": layer.out_axis, "in_axis": layer.in_axis}
        value = add("conv" if layer.kernel else "linear", value, axes | steps if layer.kernel else axes, roles)
        if layer is not layers[-1]:
            value = add("pointwise", value, {"function": activation_name(activation)})
        below = layer
    spatial = (None,) * len(layers[0].kernel)
    return Graph((GraphInput("x0", (None, layers[0].size_in, *spatial)),), tuple(ops), (value,), shapes)


def _without_positions(below: LayerTensors, layer: LayerTensors) -> tuple[str, dict[str, object]]:
    """Kind and attributes of the op between a convolution and a linear layer."""
    if layer.size_in == below.size_out:
        return "spatial_mean", {}
    positions, rest = divmod(layer.size_in, below.size_out)
    if rest:
        raise Refused(
            f"reads {layer.size_in} values, not a multiple of the {below.size_out} channels below",
            where=printable(layer.weight),
        )
    return "flatten", {"order": "channel_inner", "positions": positions}


def network_of_zoo_row(checkpoint: Checkpoint, activation: str | None) -> Network:
    """The network of a row in the layout of the Small CNN Zoo, kernels as Keras keeps them (h, w, in, out).

    Args:
        checkpoint: as `checkpoint.zoo_row` reads it.
        activation: what the user says; the zoo's own column else.

    Raises:
        Refused: the activation is not known, or the layers are no chain.
    """
    hints = checkpoint.hints
    stated = activation or hints.activation
    if stated is None:
        raise Refused(
            "the activation is not known from the file", fix="give it with --activation NAME", code="activation-unknown"
        )
    layers = keras_layers({name: tuple(array.shape) for name, array in checkpoint.tensors.items()})
    graph = small_cnn_graph(layers, stated, **_steps(checkpoint.metadata))
    family = "cnn" if layers[0].kernel else "mlp"
    source = "option --activation" if activation else hints.source
    return Network("", family, graph, (activation_name(stated),), source)


def _steps(metadata: Mapping[str, str]) -> dict[str, int]:
    """Stride and padding of every convolution, as the zoo or the file that was cut out of it says."""
    said = {name: metadata.get(name, "") for name in ("stride", "padding")}
    if not all(re.fullmatch(r"\d{1,2}", number) for number in said.values()) or not int(said["stride"]):
        raise Refused("stride and padding are not known", where="metadata", code="bad-layout")
    return {name: int(number) for name, number in said.items()}


def keras_layers(shapes: Mapping[str, tuple[int, ...]]) -> list[LayerTensors]:
    """Tensors named LAYER/kernel[:0] and LAYER/bias[:0], layer by layer from the input.

    Raises:
        Refused: a layer that is not a kernel with or without a bias.
    """
    layers: dict[str, dict[str, str]] = {}
    for name in shapes:
        layer, _, role = name.split(":")[0].rpartition("/")
        layers.setdefault(layer, {})[role] = name
    found = []
    for layer, roles in layers.items():
        kernel = shapes.get(roles.get("kernel", ""), ())
        bias = roles.get("bias")
        fits = set(roles) <= {"kernel", "bias"} and 2 <= len(kernel) <= 5
        if not fits or (bias is not None and shapes[bias] != kernel[-1:]):
            raise Refused(
                f"the layer {printable(layer)!r} has {printable(sorted(roles))}, not a kernel and a bias",
                code="bad-layout",
            )
        found.append(LayerTensors(roles["kernel"], bias, kernel, len(kernel) - 1, len(kernel) - 2))
    return found
