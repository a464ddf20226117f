"""Patterns of convolutional networks as small graphs: how channels are added, joined, cut, shuffled, shared and grouped."""

from __future__ import annotations

from collections.abc import Callable

from nfn_cli.graph.model import GraphInput, Network

from .networks import Builder, Tensors

BATCH, SIDE = 4, 4

Pattern = Callable[[Builder, int], list[str]]

PATTERNS: dict[str, Pattern] = {}


def pattern(build: Pattern) -> Pattern:
    """Register under the function's name; `build(b, n)` gives the outputs, n is the width of the hidden axes."""
    PATTERNS[build.__name__] = build
    return build


def made(name: str, n: int = 4, seed: int = 0, bias: bool = True) -> tuple[Network, Tensors]:
    builder = Builder(seed, [GraphInput("x", (BATCH, 2, SIDE, SIDE))], bias, SIDE)
    outputs = PATTERNS[name](builder, n)
    return builder.network(*outputs)


@pattern
def residual(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.conv(b.act(b.conv(x, "c1", n, n), "relu"), "c2", n, n)
    return [b.head(b.act(b.op("add", [x, y]), "relu"), n)]


@pattern
def residual_with_projection(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.conv(x, "c1", n + 1, n)
    return [b.head(b.act(b.op("add", [b.conv(x, "shortcut", n + 1, n, k=1), y]), "relu"), n + 1)]


@pattern
def batch_normed_residual(b: Builder, n: int) -> list[str]:
    x = b.act(b.norm(b.conv("x", "stem", n, 2), "n0", n), "relu")
    y = b.norm(b.conv(x, "c1", n, n), "n1", n)
    return [b.head(b.act(b.op("add", [x, y]), "relu"), n)]


@pattern
def dense_block(b: Builder, n: int) -> list[str]:
    """DenseNet: every layer reads, normalized, the concatenation of all before it."""
    parts = [b.conv("x", "stem", n, 2)]
    for layer in range(2):
        width = n * (layer + 1)
        x = b.op("concat", list(parts), axis=1) if layer else parts[0]
        parts.append(b.conv(b.act(b.norm(x, f"n{layer}", width), "relu"), f"c{layer}", n, width))
    x = b.act(b.op("concat", parts, axis=1), "relu")
    return [b.head(x, 3 * n)]


@pattern
def inception(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    one = b.act(b.conv(x, "one", n, n, k=1), "relu")
    three = b.act(b.conv(x, "three", n + 1, n), "relu")
    return [b.head(b.op("concat", [one, three, x], axis=1), 3 * n + 1)]


@pattern
def resnext(b: Builder, n: int) -> list[str]:
    """Bottleneck with two groups, which may be exchanged."""
    x = b.act(b.conv("x", "stem", 2, 2), "relu")
    y = b.act(b.conv(x, "reduce", 2 * n, 2, k=1), "relu")
    y = b.act(b.conv(y, "grouped", 2 * n, 2 * n, groups=2), "relu")
    return [b.head(b.op("add", [x, b.conv(y, "expand", 2, 2 * n, k=1)]), 2)]


@pattern
def batch_normed_groups(b: Builder, n: int) -> list[str]:
    y = b.act(b.norm(b.conv("x", "reduce", 2 * n, 2, k=1), "n0", 2 * n), "relu")
    y = b.act(b.norm(b.conv(y, "grouped", 2 * n, 2 * n, groups=2), "n1", 2 * n), "relu")
    return [b.head(y, 2 * n)]


@pattern
def chained_groups(b: Builder, n: int) -> list[str]:
    """Two grouped convolutions with the same number of groups, one after another."""
    y = b.act(b.conv("x", "a", 2 * n, 2, k=1), "relu")
    y = b.act(b.conv(y, "g", 2 * n, 2 * n, groups=2), "relu")
    y = b.act(b.conv(y, "h", 2 * n, 2 * n, groups=2), "relu")
    return [b.head(y, 2 * n)]


@pattern
def nested_groups(b: Builder, n: int) -> list[str]:
    """Two groups within each of which two groups follow: blocks of blocks."""
    y = b.act(b.conv("x", "a", 4 * n, 2, k=1), "relu")
    y = b.act(b.conv(y, "g", 4 * n, 4 * n, groups=2), "relu")
    y = b.act(b.conv(y, "h", 4 * n, 4 * n, groups=4), "relu")
    return [b.head(y, 4 * n)]


@pattern
def inverted_residual(b: Builder, n: int) -> list[str]:
    """MobileNet v3: expand, depthwise, project without activation, add."""
    x = b.norm(b.conv("x", "stem", n, 2), "n0", n)
    y = b.act(b.conv(x, "expand", n, n, k=1), "hardswish")
    y = b.act(b.norm(b.conv(y, "depthwise", n, n, groups=n), "n1", n), "hardswish")
    return [b.head(b.op("add", [x, b.norm(b.conv(y, "project", n, n, k=1), "n2", n)]), n)]


@pattern
def depthwise_multiplier(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.act(b.conv(x, "depthwise", 2 * n, n, groups=n), "relu")
    return [b.head(y, 2 * n)]


@pattern
def shuffle_unit(b: Builder, n: int) -> list[str]:
    """ShuffleNet v2: half of the channels pass, half are worked on, then both halves are interleaved."""
    x = b.act(b.conv("x", "stem", 2 * n, 2), "relu")
    left, right = b.part(x, 0, n), b.part(x, n, 2 * n)
    y = b.op("concat", [left, b.act(b.conv(right, "branch", n, n), "relu")], axis=1)
    y = b.reshape(y, BATCH, 2, n, SIDE, SIDE)
    y = b.reshape(b.permute(y, 0, 2, 1, 3, 4), BATCH, 2 * n, SIDE, SIDE)
    return [b.head(b.act(b.conv(y, "last", n, 2 * n), "relu"), n)]


@pattern
def shuffled_groups(b: Builder, n: int) -> list[str]:
    """ShuffleNet v1: grouped convolution, channel shuffle, grouped convolution: units are pulled into crossing blocks."""
    y = b.act(b.conv("x", "a", 2 * n, 2, k=1), "relu")
    y = b.act(b.conv(y, "g", 2 * n, 2 * n, k=1, groups=2), "relu")
    y = b.reshape(y, BATCH, 2, n, SIDE, SIDE)
    y = b.reshape(b.permute(y, 0, 2, 1, 3, 4), BATCH, 2 * n, SIDE, SIDE)
    return [b.head(b.act(b.conv(y, "h", 2 * n, 2 * n, k=1, groups=2), "relu"), 2 * n)]


@pattern
def pixel_shuffle(b: Builder, n: int) -> list[str]:
    """(N, C·4, H, W) to (N, C, 2H, 2W)."""
    x = b.act(b.conv("x", "stem", 4 * n, 2), "relu")
    y = b.permute(b.reshape(x, BATCH, n, 2, 2, SIDE, SIDE), 0, 1, 4, 2, 5, 3)
    return [b.head(b.reshape(y, BATCH, n, 2 * SIDE, 2 * SIDE), n)]


@pattern
def pixel_unshuffle(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    half = SIDE // 2
    y = b.permute(b.reshape(x, BATCH, n, half, 2, half, 2), 0, 1, 3, 5, 2, 4)
    y = b.reshape(y, BATCH, 4 * n, half, half)
    return [b.head(b.act(b.conv(y, "mix", n, 4 * n, k=1), "relu"), n)]


@pattern
def flattened(b: Builder, n: int) -> list[str]:
    x = b.op("max_pool", [b.act(b.conv("x", "stem", n, 2), "relu")], kernel=2, size=(2, 2))
    x = b.act(b.linear(b.op("flatten", [x]), "hidden", n, 4 * n), "tanh")
    return [b.linear(x, "fc", 3, n)]


@pattern
def flattened_by_reshape(b: Builder, n: int) -> list[str]:
    x = b.op("average_pool", [b.act(b.conv("x", "stem", n, 2), "tanh")], kernel=2, size=(2, 2))
    return [b.linear(b.reshape(x, BATCH, 4 * n), "fc", 3, 4 * n)]


@pattern
def split_of_unequal_parts(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", 2 * n + 1, 2), "relu")
    left = b.act(b.conv(b.part(x, 0, n), "left", n, n), "relu")
    right = b.act(b.conv(b.part(x, n, 2 * n + 1), "right", n, n + 1), "relu")
    return [b.head(b.op("add", [left, right]), n)]


@pattern
def same_module_twice(b: Builder, n: int) -> list[str]:
    """One convolution read twice: its two ends are tied, and only what both uses allow is left."""
    x = b.act(b.conv("x", "stem", n, 2), "tanh")
    roles = {"weight": b.tensor("shared.weight", n, n, 3, 3)}
    for _ in range(2):
        x = b.op("conv", [x], roles, out_axis=0, in_axis=1, padding=1, size=(SIDE, SIDE))
        x = b.act(x, "tanh")
    return [b.head(x, n)]


@pattern
def shared_between_branches(b: Builder, n: int) -> list[str]:
    """Siamese branches: one convolution over two values."""
    left = b.act(b.conv("x", "left", n, 2), "relu")
    right = b.act(b.conv("x", "right", n, 2), "relu")
    roles = {"weight": b.tensor("shared.weight", n, n, 3, 3)}
    ends = [
        b.act(b.op("conv", [x], roles, out_axis=0, in_axis=1, padding=1, size=(SIDE, SIDE)), "relu")
        for x in (left, right)
    ]
    return [b.head(b.op("add", ends), n)]


@pattern
def transposed(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    return [b.head(b.act(b.transposed_conv(x, "up", n + 1, n), "relu"), n + 1)]


@pattern
def transposed_groups(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", 2 * n, 2), "relu")
    return [b.head(b.act(b.transposed_conv(x, "up", 2 * n, 2 * n, groups=2), "relu"), 2 * n)]


@pattern
def transposed_depthwise(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    return [b.head(b.act(b.transposed_conv(x, "up", n, n, groups=n), "relu"), n)]


@pattern
def auxiliary_head(b: Builder, n: int) -> list[str]:
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.act(b.conv(x, "deep", n, n), "tanh")
    return [b.head(y, n), b.head(x, n, name="aux")]


@pattern
def channels_as_output(b: Builder, n: int) -> list[str]:
    """A second output shows the hidden channels themselves: nothing may move them."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    y = b.act(b.conv(x, "deep", n, n), "relu")
    return [b.head(y, n), x]


@pattern
def unknown_op(b: Builder, n: int) -> list[str]:
    """What is not understood freezes the axes it touches and no others."""
    x = b.act(b.conv("x", "stem", n, 2), "relu")
    x = b.act(b.conv(x, "before", n, n), "relu")
    x = b.op("aten.logcumsumexp", [x], axis=1, shape=[BATCH, n, SIDE, SIDE])
    x = b.act(b.conv(x, "after", n, n), "relu")
    return [b.head(x, n)]
