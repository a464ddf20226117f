"""Patterns of convolutional networks as small graphs: norms, gates, activations, constants, channels-last and attention."""

from __future__ import annotations

from .networks import Builder
from .patterns import BATCH, SIDE, pattern

POSITIONS = SIDE * SIDE


@pattern
def group_norm(b: Builder, n: int) -> list[str]:
    x = b.conv("x", "stem", 2 * n, 2)
    x = b.op("normalize", [x], axes=[1, 2, 3], groups=2, eps=0.3)
    return [b.head(b.act(b.gain_and_bias(x, "gn", 2 * n), "relu"), 2 * n)]


@pattern
def group_norm_without_gain(b: Builder, n: int) -> list[str]:
    x = b.op("normalize", [b.conv("x", "stem", 2 * n, 2)], axes=[1, 2, 3], groups=2, eps=0.3)
    return [b.head(b.act(x, "tanh"), 2 * n)]


@pattern
def layer_norm_of_channels(b: Builder, n: int) -> list[str]:
    """GroupNorm with one group."""
    x = b.op("normalize", [b.conv("x", "stem", n, 2)], axes=[1, 2, 3], groups=1, eps=0.3)
    return [b.head(b.act(b.gain_and_bias(x, "ln", n), "tanh"), n)]


@pattern
def instance_norm(b: Builder, n: int) -> list[str]:
    x = b.op("normalize", [b.conv("x", "stem", n, 2, bias=False)], axes=[2, 3], eps=0.3)
    return [b.head(b.act(b.gain_and_bias(x, "in", n), "relu"), n)]


@pattern
def instance_norm_without_gain(b: Builder, n: int) -> list[str]:
    x = b.op("normalize", [b.conv("x", "stem", n, 2, bias=False)], axes=[2, 3], eps=0.3)
    return [b.head(b.act(x, "tanh"), n)]


@pattern
def layer_norm_of_maps(b: Builder, n: int) -> list[str]:
    """LayerNorm over channels and positions with a gain and a bias for each entry."""
    x = b.op("normalize", [b.conv("x", "stem", n, 2)], axes=[1, 2, 3], eps=0.3)
    x = b.op("mul", [x, b.parameter("ln.weight", n, SIDE, SIDE)])
    return [b.head(b.act(b.op("add", [x, b.parameter("ln.bias", n, SIDE, SIDE)]), "relu"), n)]


@pattern
def rms_norm(b: Builder, n: int) -> list[str]:
    x = b.op("rms_normalize", [b.conv("x", "stem", n, 2)], axes=[1], eps=0.3)
    x = b.op("scale", [x], {"weight": b.tensor("rms.weight", n)}, axis=1)
    return [b.head(b.act(b.conv(x, "c", n, n), "relu"), n)]


@pattern
def batch_norm_without_gain(b: Builder, n: int) -> list[str]:
    x = b.norm(b.conv("x", "stem", n, 2), "bn", n, affine=False)
    return [b.head(b.act(x, "tanh"), n)]


@pattern
def batch_norm_before_relu(b: Builder, n: int) -> list[str]:
    return [b.head(b.act(b.norm(b.conv("x", "stem", n, 2), "bn", n), "relu"), n)]


def _squeeze_excite(b: Builder, n: int, gate: str) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    s = b.act(b.conv(b.reduce(x, "mean", 2, 3), "squeeze", n, n, k=1), "relu")
    s = b.act(b.conv(s, "excite", n, n, k=1), gate)
    return [b.head(b.op("mul", [x, s]), n)]


@pattern
def squeeze_excite(b: Builder, n: int) -> list[str]:
    return _squeeze_excite(b, n, "sigmoid")


@pattern
def hard_squeeze_excite(b: Builder, n: int) -> list[str]:
    return _squeeze_excite(b, n, "hardsigmoid")


@pattern
def gated_linear_unit(b: Builder, n: int) -> list[str]:
    x = b.conv("x", "stem", 2 * n, 2)
    return [b.head(b.op("mul", [b.part(x, 0, n), b.act(b.part(x, n, 2 * n), "sigmoid")]), n)]


@pattern
def efficient_channel_attention(b: Builder, n: int) -> list[str]:
    """A convolution along the channel axis: no order but the given one."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    s = b.reshape(b.reduce(x, "mean", 2, 3), BATCH, 1, n)
    weight = {"weight": b.tensor("eca.weight", 1, 1, 3)}
    s = b.op("conv", [s], weight, out_axis=0, in_axis=1, padding=1, size=(n,))
    s = b.reshape(b.act(s, "sigmoid"), BATCH, n, 1, 1)
    return [b.head(b.op("mul", [x, s]), n)]


@pattern
def spatial_attention(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    maps = b.op("concat", [b.reduce(x, "mean", 1), b.reduce(x, "max", 1)], axis=1)
    return [b.head(b.op("mul", [x, b.act(b.conv(maps, "map", 1, 2), "sigmoid")]), n)]


@pattern
def spatial_gate(b: Builder, n: int) -> list[str]:
    """The map comes from a convolution, so the channels keep their magnitudes and signs."""
    x = b.act(b.conv("x", "stem", n, 2), "tanh")
    return [b.head(b.op("mul", [x, b.act(b.conv(x, "map", 1, n), "sigmoid")]), n)]


@pattern
def linear_spatial_gate(b: Builder, n: int) -> list[str]:
    """The map itself has a magnitude and a sign that what follows can take up."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    return [b.head(b.op("mul", [x, b.conv(x, "map", 1, n)]), n)]


@pattern
def weight_standardization(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    weight = b.op("normalize", [b.parameter("ws.weight", n, n, 3, 3)], axes=[1, 2, 3], eps=0.3)
    x = b.op("conv", [x, weight], out_axis=0, in_axis=1, padding=1, size=(SIDE, SIDE))
    return [b.head(b.act(x, "relu"), n)]


@pattern
def weight_standardization_with_gain(b: Builder, n: int) -> list[str]:
    """The gain of each filter frees its output's magnitude and sign."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    weight = b.op("normalize", [b.parameter("ws.weight", n, n, 3, 3)], axes=[1, 2, 3], eps=0.3)
    weight = b.op("scale", [weight], {"weight": b.tensor("ws.gain", n)}, axis=0)
    x = b.op("conv", [x, weight], out_axis=0, in_axis=1, padding=1, size=(SIDE, SIDE))
    return [b.head(b.act(x, "relu"), n)]


@pattern
def computed_weight(b: Builder, n: int) -> list[str]:
    """A weight times a number: magnitudes and signs pass on both of its axes."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    weight = b.op("scalar", [b.parameter("scaled.weight", n, n, 3, 3)], multiply=0.7)
    x = b.op("conv", [x, weight], out_axis=0, in_axis=1, padding=1, size=(SIDE, SIDE))
    return [b.head(b.act(x, "relu"), n)]


@pattern
def layer_scale(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.op(
        "scale", [b.conv(b.act(b.conv(x, "a", n, n), "gelu"), "b", n, n)], {"weight": b.tensor("gamma", n)}, axis=1
    )
    return [b.head(b.op("add", [x, y]), n)]


@pattern
def one_prelu_slope(b: Builder, n: int) -> list[str]:
    return [b.head(b.prelu(b.conv("x", "stem", n, 2), "prelu", 1), n)]


@pattern
def prelu_slopes(b: Builder, n: int) -> list[str]:
    return [b.head(b.prelu(b.conv("x", "stem", n, 2), "prelu", n), n)]


@pattern
def relu6(b: Builder, n: int) -> list[str]:
    return [b.head(b.act(b.conv("x", "stem", n, 2), "relu6"), n)]


@pattern
def hardswish(b: Builder, n: int) -> list[str]:
    return [b.head(b.act(b.conv("x", "stem", n, 2), "hardswish"), n)]


@pattern
def pools(b: Builder, n: int) -> list[str]:
    """Averages keep the sign of an odd function, maxima do not."""
    x = b.op("average_pool", [b.act(b.conv("x", "stem", n, 2), "tanh")], kernel=2, size=(2, 2))
    y = b.op("max_pool", [b.act(b.conv("x", "other", n, 2), "tanh")], kernel=2, size=(2, 2))
    return [b.linear(b.op("flatten", [b.op("concat", [x, y], axis=1)]), "fc", 3, 8 * n)]


@pattern
def adaptive_pools(b: Builder, n: int) -> list[str]:
    x = b.op("pool", [b.act(b.conv("x", "stem", n, 2), "tanh")], size=(1, 1), statistic="average")
    y = b.op("pool", [b.act(b.conv("x", "other", n, 2), "relu")], size=(1, 1), statistic="max")
    return [b.linear(b.op("flatten", [b.op("concat", [x, y], axis=1)]), "fc", 3, 2 * n)]


@pattern
def mean_over_positions(b: Builder, n: int) -> list[str]:
    """Global pooling as mean and reshape."""
    x = b.act(b.conv("x", "stem", n, 2), "tanh")
    return [b.linear(b.reshape(b.reduce(x, "mean", 2, 3), BATCH, n), "fc", 3, n)]


@pattern
def blur(b: Builder, n: int) -> list[str]:
    """A depthwise kernel that is a buffer: the same for all channels, so it commutes with everything."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    weight = b.tensor("blur.kernel", n, 1, 3, 3)
    b.tensors[weight][:] = b.tensors[weight][:1]
    how = {"out_axis": 0, "in_axis": 1, "padding": 1, "groups": n, "size": (SIDE, SIDE), "trained": False}
    return [b.head(b.act(b.conv(b.op("conv", [x], {"weight": weight}, **how), "c", n, n), "relu"), n)]


@pattern
def normalized_inputs(b: Builder, n: int) -> list[str]:
    mean, deviation = b.parameter("mean", 2, 1, 1, trained=False), b.parameter("std", 2, 1, 1, trained=False)
    x = b.op("mul", [b.op("add", ["x", b.op("scalar", [mean], multiply=-1.0)]), b.act(deviation, "reciprocal")])
    return [b.head(b.act(b.conv(x, "stem", n, 2), "relu"), n)]


@pattern
def stochastic_depth(b: Builder, n: int) -> list[str]:
    """In evaluation the identity, or a factor; an unused tensor lies beside it."""
    b.tensor("unused", n, n)
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.act(b.op("scalar", [b.conv(x, "c", n, n)], multiply=0.8), "identity")
    return [b.head(b.op("add", [x, y]), n)]


@pattern
def convnext(b: Builder, n: int) -> list[str]:
    """Depthwise convolution, channels last, LayerNorm, linear, GELU, GRN, linear, layer scale, residual."""
    x = b.conv("x", "stem", n, 2)
    y = b.permute(b.conv(x, "dw", n, n, groups=n), 0, 2, 3, 1)
    y = b.act(b.linear(b.layer_norm(y, "ln", n), "up", n, n), "gelu")
    size = b.reduce(y, "norm", 1, 2)
    relative = b.act(b.op("scalar", [b.reduce(size, "mean", 3)], add=1e-6), "reciprocal")
    gained = b.gain_and_bias(b.op("mul", [y, b.op("mul", [size, relative])]), "grn", n, axis=3)
    y = b.linear(b.op("add", [y, gained]), "down", n, n)
    y = b.permute(b.op("scale", [y], {"weight": b.tensor("gamma", n)}, axis=3), 0, 3, 1, 2)
    return [b.head(b.op("add", [x, y]), n)]


@pattern
def channels_last(b: Builder, n: int) -> list[str]:
    y = b.permute(b.act(b.conv("x", "stem", n, 2), "relu"), 0, 2, 3, 1)
    y = b.permute(b.act(b.linear(y, "mix", n, n), "relu"), 0, 3, 1, 2)
    return [b.head(y, n)]


@pattern
def attention(b: Builder, n: int) -> list[str]:
    """Single-head self-attention over positions: what the products touch is kept, the rest stays free."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    tokens = b.permute(b.reshape(x, BATCH, n, POSITIONS), 0, 2, 1)
    q, k, v = (b.linear(tokens, name, n, n) for name in "qkv")
    scores = b.op("matmul", [q, b.permute(k, 0, 2, 1)], shape=[BATCH, POSITIONS, POSITIONS])
    mixed = b.op("matmul", [b.op("softmax", [scores], axis=-1), v], shape=[BATCH, POSITIONS, n])
    y = b.reshape(b.permute(mixed, 0, 2, 1), BATCH, n, SIDE, SIDE)
    return [b.head(b.op("add", [x, b.conv(y, "project", n, n, k=1)]), n)]


@pattern
def broadcast_add(b: Builder, n: int) -> list[str]:
    """A single map added to all channels, and a vector added to all positions."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    x = b.op("add", [x, b.conv("x", "map", 1, 2)])
    x = b.op("add", [x, b.parameter("position", 1, n, 1, 1)])
    return [b.head(b.act(x, "relu"), n)]


@pattern
def degrees(b: Builder, n: int) -> list[str]:
    """Squares and absolute values before what adds them."""
    x = b.act(b.conv("x", "stem", n, 2), "square")
    y = b.act(b.conv("x", "other", n, 2), "abs")
    return [b.head(b.op("add", [x, b.conv(y, "c", n, n, k=1)]), n)]


@pattern
def two_magnitudes_multiplied(b: Builder, n: int) -> list[str]:
    """Both factors bring a magnitude: what follows takes up the product."""
    left, right = b.conv("x", "left", n, 2), b.act(b.conv("x", "right", n, 2), "relu")
    return [b.head(b.op("mul", [left, right]), n)]


@pattern
def mean_over_batch(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    x = b.op("add", [x, b.op("scalar", [b.reduce(x, "mean", 0)], multiply=-1.0)])
    return [b.head(b.act(b.conv(x, "c", n, n), "relu"), n)]
