"""graph/from_keras/weighted.py: layers with weights: dense ones, convolutions, normalizations. Kernels are (…, in, out)."""

from __future__ import annotations

from nfn_cli.graph.from_keras.activations import activated
from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call
from nfn_cli.graph.from_keras.registry import each, layer, one

_AXES = {f"Conv{axes}D": axes for axes in (1, 2, 3)} | {"Convolution2D": 2}


@layer("Dense")
def _dense(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x, kernel = one(inputs), builder.needed(call.layer, "kernel")
    bias = builder.optional(call.layer, "use_bias", "bias")
    if x.axes == 2:
        made = builder.node("Gemm", [x, kernel, *([bias] if bias else [])], 2)
    else:
        made = builder.node("MatMul", [builder.channels_last(x), kernel], x.rank)
        made = builder.channels_first(builder.node("Add", [made, bias], x.rank) if bias else made)
    return activated(builder, call, made)


def _convolved(
    builder: Builder, call: Call, x: Value, kernel: str | Value, bias: str, groups: int, strided: bool = True
) -> Value:
    settings, axes = call.layer.settings, x.axes - 2
    padding, dilation = str(settings.get("padding", "valid")), each(settings.get("dilation_rate", 1), axes)
    how: dict[str, object] = {"strides": each(settings.get("strides", 1) if strided else 1, axes)}
    if padding == "causal":
        size = each(settings["kernel_size"], axes)
        how["pads"] = [dilation[0] * (size[0] - 1), 0]
    elif padding in ("same", "valid"):
        how["auto_pad"] = "SAME_UPPER" if padding == "same" else "VALID"
    else:
        raise Unsaid
    parts = [x, kernel, *([bias] if bias else [])]
    return builder.node("Conv", parts, x.rank, dilations=dilation, group=groups, **how)


def _outer(axes: int) -> list[int]:
    """(…, in, out) -> (out, in, …)."""
    return [axes + 1, axes, *range(axes)]


@layer(*_AXES)
def _conv(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x, axes = one(inputs), _AXES[call.layer.kind]
    if x.axes != axes + 2:
        raise Unsaid
    kernel = builder.permuted(builder.needed(call.layer, "kernel"), _outer(axes))
    bias = builder.optional(call.layer, "use_bias", "bias")
    groups = int(call.layer.settings.get("groups", 1))
    return activated(builder, call, _convolved(builder, call, x, kernel, bias, groups))


def _one_for_each_channel(builder: Builder, tensor: str, axes: int) -> tuple[Value, int]:
    """A depthwise kernel (…, channels, multiplier) as (channels · multiplier, 1, …), and the number of channels."""
    *window, channels, multiplier = builder.shape(tensor)
    kernel = builder.permuted(tensor, [axes, axes + 1, *range(axes)])
    if multiplier != 1:
        shape = builder.constant([channels * multiplier, 1, *window], "int64")
        kernel = builder.node("Reshape", [kernel, shape], axes + 2)
    return kernel, channels


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    kernel, channels = _one_for_each_channel(
        builder, builder.needed(call.layer, "depthwise_kernel", "kernel"), x.axes - 2
    )
    bias = builder.optional(call.layer, "use_bias", "bias")
    return activated(builder, call, _convolved(builder, call, x, kernel, bias, channels))


@layer("SeparableConv1D", "SeparableConv2D")
def _separable(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x, axes = one(inputs), one(inputs).axes - 2
    kernel, channels = _one_for_each_channel(builder, builder.needed(call.layer, "depthwise_kernel"), axes)
    between = _convolved(builder, call, x, kernel, "", channels)
    pointwise = builder.permuted(builder.needed(call.layer, "pointwise_kernel"), _outer(axes))
    bias = builder.optional(call.layer, "use_bias", "bias")
    made = builder.node("Conv", [between, pointwise, *([bias] if bias else [])], x.rank)
    return activated(builder, call, made)


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _turned(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    """ "same" makes n·stride positions, "valid" as many as kernels reach, or strides where those are longer."""
    settings, x = call.layer.settings, one(inputs)
    axes = x.axes - 2
    stride, dilation = each(settings.get("strides", 1), axes), each(settings.get("dilation_rate", 1), axes)
    tensor = builder.needed(call.layer, "kernel")
    longer = [s - k for s, k in zip(stride, builder.shape(tensor)[:axes], strict=True)]
    same = settings.get("padding", "valid") == "same"
    if settings.get("output_padding") is not None or dilation != [1] * axes or (same and max(longer) > 0):
        raise Unsaid
    kernel = builder.permuted(tensor, _outer(axes))  # (…, out, in): what is made stands before what is read
    bias = builder.optional(call.layer, "use_bias", "bias")
    how: dict[str, object] = {"auto_pad": "SAME_UPPER"} if same else {"output_padding": [max(0, n) for n in longer]}
    made = builder.node("ConvTranspose", [x, kernel, *([bias] if bias else [])], x.rank, strides=stride, **how)
    return activated(builder, call, made)


@layer("BatchNormalization", "SyncBatchNormalization")
def _batch_norm(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    _over_channels(call, x)
    parts: list[str | Value] = [
        x,
        builder.optional(call.layer, "scale", "gamma"),
        builder.optional(call.layer, "center", "beta"),
        builder.needed(call.layer, "moving_mean"),
        builder.needed(call.layer, "moving_variance"),
    ]
    return builder.node("BatchNormalization", parts, x.rank, epsilon=_epsilon(call))


@layer("LayerNormalization")
def _layer_norm(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    x = one(inputs)
    _over_channels(call, x)
    gain = builder.optional(call.layer, "scale", "gamma")
    bias = builder.optional(call.layer, "center", "beta")
    if call.layer.settings.get("rms_scaling") or not gain:
        raise Unsaid
    parts: list[str | Value] = [builder.channels_last(x), gain, *([bias] if bias else [])]
    made = builder.node("LayerNormalization", parts, x.rank, axis=-1, epsilon=_epsilon(call))
    return builder.channels_first(made)


@layer("LayerScale")
def _layer_scale(builder: Builder, call: Call, inputs: list[Value]) -> Value:
    """A factor for each channel, whose variable has no name (keras/src/applications/convnext.py)."""
    x = one(inputs)
    (gain,) = builder.tensors_of(call.layer)
    return builder.channels_first(builder.node("Mul", [builder.channels_last(x), gain], x.rank))


def _over_channels(call: Call, x: Value) -> None:
    axis = call.layer.settings.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, x.axes - 1):
        raise Unsaid


def _epsilon(call: Call) -> float:
    return float(call.layer.settings.get("epsilon", 1e-3))
