"""zoo/cnn_graph.py: the graph of a network that the zoo trains. Knows architectures and the op vocabulary; no torch."""

from __future__ import annotations

from nfn_cli.graph.model import Graph, GraphInput, Op
from nfn_cli.zoo.population import KERNEL, Architecture

NORM_EPS = 1e-5
LEAKY_SLOPE = 0.01


def cnn_graph(architecture: Architecture) -> Graph:
    """The network in evaluation mode: images (N, channels, height, width) in [−1, 1] -> logits (N, classes)."""
    shape = (None, architecture.channels, architecture.height, architecture.width)
    ops: list[Op] = []
    value = "images"
    for index in range(len(architecture.layers)):
        value = _layer(architecture, index, value, ops)
    ops.append(Op("spatial_mean", (value,), "features"))
    head = {"weight": "head.weight", "bias": "head.bias"}
    ops.append(Op("linear", ("features",), "logits", head, {"out_axis": 0, "in_axis": 1}))
    shapes = architecture.tensor_shapes() | architecture.buffer_shapes()
    return Graph((GraphInput("images", shape),), tuple(ops), ("logits",), shapes)


def _layer(architecture: Architecture, index: int, value: str, ops: list[Op]) -> str:
    """Append the ops of one layer; its output's name."""
    stride = architecture.layers[index].stride
    conv, norm, joined, out = (f"{part}.{index}" for part in ("convs", "norms", "sums", "layers"))
    roles = {"weight": f"{conv}.weight"}
    if not architecture.batch_norm:
        roles["bias"] = f"{conv}.bias"
    ops.append(Op("conv", (value,), conv, roles, _steps(stride, KERNEL // 2)))
    before = conv
    if architecture.batch_norm:
        named = {role: f"{norm}.{role}" for role in ("weight", "bias", "running_mean", "running_var")}
        ops.append(Op("batch_norm", (conv,), norm, named, {"eps": NORM_EPS}))
        before = norm
    if architecture.residual and index:
        shortcut = value
        if architecture.has_projection(index):
            shortcut = f"shortcuts.{index}"
            ops.append(Op("conv", (value,), shortcut, {"weight": f"{shortcut}.weight"}, _steps(stride, 0)))
        ops.append(Op("add", (before, shortcut), joined))
        before = joined
    function: dict[str, object] = {"function": architecture.activation}
    if architecture.activation == "leaky_relu":
        function["slope"] = LEAKY_SLOPE
    ops.append(Op("pointwise", (before,), out, {}, function))
    return out


def _steps(stride: int, padding: int) -> dict[str, object]:
    return {"out_axis": 0, "in_axis": 1, "groups": 1, "stride": stride, "padding": padding, "dilation": 1}
