"""Tiny networks with symmetries beyond the monomial group, and the extras each of them has."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from nfn_cli.graph.model import GraphInput, Network

from .networks import Builder, Tensors

Case = tuple[Network, Tensors]


def vectors(seed: int, size: int) -> Builder:
    return Builder(seed, [GraphInput("x", (None, size))])


def images(seed: int, channels: int = 1, side: int | None = 4) -> Builder:
    return Builder(seed, [GraphInput("x", (None, channels, side, side))])


def layer_norm(b: Builder, x: str, name: str, n: int, bias: bool = True) -> str:
    roles = {"weight": b.tensor(f"{name}.weight", n)}
    if bias:
        roles["bias"] = b.tensor(f"{name}.bias", n)
    return b.op("layer_norm", [x], roles, eps=0.1)


def plain_conv(b: Builder, x: str, name: str, out: int, into: int, k: int = 3, **attributes: Any) -> str:
    """A convolution without bias."""
    weight = b.tensor(f"{name}.weight", out, into, k, k)
    return b.op("conv", [x], {"weight": weight}, out_axis=0, in_axis=1, padding=k // 2, **attributes)


def pooled(b: Builder, x: str, into: int, out: int = 2) -> Case:
    return b.network(b.linear(b.op("spatial_mean", [x]), "head", out, into))


def chain(seed: int, widths: tuple[int, ...], bias: bool = True) -> Case:
    """Linear layers and nothing else."""
    b, x = vectors(seed, widths[0]), "x"
    for layer, (into, out) in enumerate(itertools.pairwise(widths)):
        x = b.linear(x, f"l{layer}", out, into, bias)
    return b.network(x)


def batch_norm(seed: int, function: str, affine: bool = True) -> Case:
    b = vectors(seed, 3)
    x = b.act(b.norm(b.linear("x", "a", 4, 3), "n", 4, affine), function)
    return b.network(b.linear(x, "o", 2, 4))


def residual(seed: int, skip: str, function: str = "tanh") -> Case:
    """skip: "identity", "conv" (1 × 1), or "bare" (1 × 1, no norms at all)."""
    b = images(seed)
    x = b.act(b.conv("x", "a", 2, 1), function)
    y = b.conv(x, "c", 2, 2)
    z = x if skip == "identity" else b.conv(x, "d", 2, 2, k=1)
    if skip != "bare":
        y = b.norm(y, "n", 2)
        z = z if skip == "identity" else b.norm(z, "m", 2)
    return pooled(b, b.act(b.op("add", [y, z]), function), 2)


def repvgg(seed: int) -> Case:
    b = images(seed)
    x = b.act(b.conv("x", "a", 2, 1), "tanh")
    y = b.norm(plain_conv(b, x, "c", 2, 2), "n", 2)
    z = b.norm(plain_conv(b, x, "d", 2, 2, k=1), "m", 2)
    return pooled(b, b.act(b.op("add", [b.op("add", [y, z]), b.norm(x, "i", 2)]), "tanh"), 2)


def inverted_residual(seed: int) -> Case:
    """A stream of batch norms without activation between (MobileNetV2)."""
    b = images(seed)
    x = b.norm(plain_conv(b, "x", "a", 2, 1), "n", 2)
    y = b.act(b.norm(plain_conv(b, x, "e", 3, 2, k=1), "en", 3), "tanh")
    x = b.op("add", [x, b.norm(plain_conv(b, y, "p", 2, 3, k=1), "pn", 2)])
    return pooled(b, b.act(b.norm(plain_conv(b, x, "f", 3, 2, k=1), "fn", 3), "tanh"), 3)


def before_norm(seed: int, kind: str) -> Case:
    """One layer, then a norm over units, groups or space."""
    if kind in ("layer", "groups-of-units"):
        b = vectors(seed, 3)
        x = b.linear("x", "a", 6, 3)
        how = {"groups": 2} if kind == "groups-of-units" else {}
        x = b.op("normalize", [x], axes=[1], eps=0.1, **how)
        return b.network(b.linear(b.act(x, "tanh"), "o", 2, 6))
    b = images(seed)
    how = {"groups": {"groups": 2, "axes": [1, 2, 3]}, "instance": {"axes": [2, 3]}, "all": {"axes": [1, 2, 3]}}[kind]
    x = b.op("normalize", [b.conv("x", "a", 4, 1)], eps=0.1, **how)
    return pooled(b, b.act(x, "tanh"), 4)


def softmax(seed: int) -> Case:
    b = vectors(seed, 3)
    x = b.act(b.linear("x", "a", 4, 3), "tanh")
    return b.network(b.op("softmax", [b.linear(x, "o", 3, 4)], axis=1))


def attention_like(seed: int) -> Case:
    """softmax, then a linear layer."""
    b = vectors(seed, 3)
    return b.network(b.linear(b.op("softmax", [b.linear("x", "a", 4, 3)], axis=1), "o", 3, 4))


def stream(seed: int, entry: str = "identity") -> Case:
    """Pre-norm residual blocks, as in an MLP-Mixer; what enters the stream is linear or goes through `entry`."""
    b = vectors(seed, 4)
    x = b.act(b.linear("x", "a", 4, 4), entry) if entry != "identity" else b.linear("x", "a", 4, 4)
    for block in range(2):
        y = b.act(b.linear(layer_norm(b, x, f"n{block}", 4), f"p{block}", 3, 4), "tanh")
        x = b.op("add", [x, b.linear(y, f"q{block}", 4, 3)])
    return b.network(b.linear(layer_norm(b, x, "n", 4), "o", 2, 4))


def rms(seed: int) -> Case:
    b = vectors(seed, 5)
    x = b.op("rms_normalize", [b.linear("x", "a", 4, 5)], axes=[1], eps=0.1)
    return b.network(b.linear(b.act(b.linear(x, "c", 3, 4), "tanh"), "o", 2, 3))


def norm_linear_norm(seed: int, parallel: bool) -> Case:
    b = vectors(seed, 5)
    x = layer_norm(b, b.act(b.linear("x", "a", 4, 5), "tanh"), "n", 4)
    y = b.linear(x, "c", 4, 4)
    if parallel:
        y = b.op("add", [y, b.linear(x, "d", 4, 4)])
    return b.network(b.linear(b.act(layer_norm(b, y, "m", 4), "tanh"), "o", 2, 4))


def convolutions(seed: int) -> Case:
    """3 × 3, then 1 × 1, then 3 × 3, nothing between."""
    b = images(seed)
    x = b.conv(b.conv(b.conv("x", "a", 2, 1), "c", 2, 2, k=1), "d", 2, 2)
    return pooled(b, b.act(x, "tanh"), 2)


def flattened(seed: int) -> Case:
    b = images(seed)
    x = b.op("pool", [b.conv("x", "a", 2, 1)], size=(2, 2), statistic="average")
    x = b.act(b.linear(b.op("flatten", [x]), "f", 3, 8), "tanh")
    return b.network(b.linear(x, "o", 2, 3))


def joined(seed: int) -> Case:
    """Two linear axes, of two inputs, read side by side."""
    b = Builder(seed, [GraphInput("x", (None, 4)), GraphInput("u", (None, 3))])
    x = b.op("concat", [b.linear("x", "a", 2, 4), b.linear("u", "c", 3, 3)], axis=1)
    return b.network(b.linear(b.act(b.linear(x, "d", 6, 5), "tanh"), "o", 2, 6))


def layer_scale(seed: int) -> Case:
    """A stream that takes in layers through learned factors, read by a tanh."""
    b = vectors(seed, 4)
    x = b.linear("x", "a", 4, 4)
    y = b.linear(b.act(b.linear("x", "c", 3, 4), "tanh"), "d", 4, 3)
    y = b.op("scale", [y], {"weight": b.tensor("gamma", 4)}, axis=1)
    return b.network(b.linear(b.act(b.op("add", [x, y]), "tanh"), "o", 2, 4))


def pooled_bias(seed: int, kind: str) -> Case:
    """A bias before a pooling before a linear layer."""
    b = images(seed)
    x = b.conv(b.act(b.conv("x", "a", 2, 1), "tanh"), "c", 2, 2)
    if kind == "max":
        x = b.op("max_pool", [x], kernel=2, stride=2)
    return b.network(b.linear(b.op("flatten", [b.op("pool", [x], size=(1, 1), statistic="average")]), "o", 2, 2))


def dense(seed: int) -> Case:
    """Concatenations of everything before, each read through a batch norm of its own (DenseNet)."""
    b = images(seed)
    x = plain_conv(b, "x", "a", 2, 1)
    for block in range(2):
        y = b.act(b.norm(x, f"n{block}", 2 + block), "tanh")
        x = b.op("concat", [x, plain_conv(b, y, f"c{block}", 1, 2 + block, k=1)], axis=1)
    return pooled(b, b.act(b.norm(x, "n", 4), "tanh"), 4)


def preactivated(seed: int) -> Case:
    """A residual stream with biases that batch norms read at every block."""
    b = images(seed)
    x = b.conv("x", "a", 2, 1)
    for block in range(2):
        x = b.op("add", [x, b.conv(b.act(b.norm(x, f"n{block}", 2), "tanh"), f"c{block}", 2, 2, k=1)])
    return pooled(b, b.act(b.norm(x, "n", 2), "tanh"), 2)


def convnext(seed: int) -> Case:
    """Layer norms over channels that stand last for their sake, a depthwise convolution, a learned factor."""
    b = images(seed)

    def normed(x: str, name: str) -> str:
        return layer_norm(b, b.op("permute", [x], order=[0, 2, 3, 1]), name, 3)

    def first(x: str) -> str:
        return b.op("permute", [x], order=[0, 3, 1, 2])

    x = first(normed(b.conv("x", "a", 3, 1, k=1), "sn"))
    y = b.linear(normed(b.conv(x, "dw", 3, 3, groups=3), "n"), "p", 4, 3)
    y = first(b.linear(b.act(y, "gelu"), "q", 3, 4))
    x = b.op("add", [b.op("scale", [y], {"weight": b.tensor("gamma", 3)}, axis=1), x])
    x = first(normed(b.op("reduce", [x], axes=[2, 3], statistic="mean"), "hn"))
    return b.network(b.linear(b.op("flatten", [x], positions=1), "o", 2, 3))


def strided(seed: int) -> Case:
    """A projection with stride 2 beside a 3 × 3 convolution with stride 2."""
    b = images(seed, side=5)
    x = b.act(b.conv("x", "a", 2, 1), "tanh")
    y = b.norm(plain_conv(b, x, "c", 2, 2, stride=2), "n", 2)
    z = b.norm(plain_conv(b, x, "d", 2, 2, k=1, stride=2), "m", 2)
    return pooled(b, b.act(b.op("add", [y, z]), "tanh"), 2)


# name -> (network, the extras' kinds with their dimensions)
CASES: dict[str, tuple[Callable[[int], Case], dict[str, int]]] = {
    "chain": (lambda s: chain(s, (3, 3, 3)), {"bias-before-linear": 3, "linear-mixing": 6}),
    "chain-no-bias": (lambda s: chain(s, (4, 3, 4), False), {"linear-mixing": 6}),
    "chain-wide": (
        lambda s: chain(s, (2, 4, 4, 2)),
        {"bias-before-linear": 8, "linear-mixing": 8, "unreached-weights": 12},
    ),
    "chain-bottleneck": (
        lambda s: chain(s, (5, 3, 4, 5)),
        {"bias-before-linear": 7, "linear-mixing": 14, "unreached-weights": 5},
    ),
    "batch-norm": (
        lambda s: batch_norm(s, "tanh"),
        {"bias-before-batch-norm": 4, "mean-against-bias": 4, "variance-against-weight": 4},
    ),
    "batch-norm-relu": (
        lambda s: batch_norm(s + 1, "leaky_relu"),  # a draw in which each unit is on for some inputs and off for others
        {"bias-before-batch-norm": 4, "mean-against-bias": 4, "variance-against-weight": 4},
    ),
    "batch-norm-bare": (lambda s: batch_norm(s, "tanh", affine=False), {"bias-before-batch-norm": 4}),
    "residual": (
        lambda s: residual(s, "identity"),
        {"bias-before-batch-norm": 2, "mean-against-bias": 2, "variance-against-weight": 2},
    ),
    "residual-projected": (
        lambda s: residual(s, "conv"),
        {
            "bias-before-batch-norm": 4,
            "added-biases": 2,
            "mean-against-bias": 4,
            "variance-against-weight": 4,
            "parallel-maps": 4,
        },
    ),
    "residual-bare": (lambda s: residual(s, "bare"), {"added-biases": 2, "parallel-maps": 4}),
    "repvgg": (
        repvgg,
        {
            "added-biases": 4,
            "mean-against-bias": 6,
            "variance-against-weight": 6,
            "parallel-maps": 4,
            "parallel-norm": 2,
        },
    ),
    "inverted-residual": (
        inverted_residual,
        {"mean-against-bias": 10, "bias-before-linear": 4, "variance-against-weight": 10, "linear-mixing": 2},
    ),
    "layer-norm": (lambda s: before_norm(s, "layer"), {"bias-before-layer-norm": 1, "common-rows": 3}),
    "group-norm-units": (lambda s: before_norm(s, "groups-of-units"), {"bias-before-layer-norm": 2, "common-rows": 6}),
    "group-norm": (lambda s: before_norm(s, "groups"), {"bias-before-layer-norm": 2}),
    "instance-norm": (lambda s: before_norm(s, "instance"), {"bias-before-normalization": 4}),
    "norm-of-everything": (lambda s: before_norm(s, "all"), {"bias-before-layer-norm": 1}),
    "softmax": (softmax, {"bias-before-softmax": 1, "common-rows": 4}),
    "softmax-linear": (attention_like, {"bias-before-softmax": 1, "common-rows": 3, "unreached-weights": 3}),
    "stream": (
        stream,
        {
            "bias-before-layer-norm": 3,
            "bias-before-linear": 12,
            "unreached-weights": 8,
            "common-rows": 10,
            "rotation": 3,
        },
    ),
    "stream-behind-tanh": (
        lambda s: stream(s, "tanh"),
        {"bias-before-layer-norm": 2, "bias-before-linear": 12, "unreached-weights": 8, "common-rows": 6},
    ),
    "rms": (rms, {"rotation": 6}),
    "norm-linear-norm": (
        lambda s: norm_linear_norm(s, False),
        {"bias-before-linear": 4, "bias-before-layer-norm": 1, "common-rows": 4, "unreached-weights": 3},
    ),
    "norm-parallel-norm": (
        lambda s: norm_linear_norm(s, True),
        {
            "bias-before-linear": 4,
            "added-biases": 4,
            "bias-before-layer-norm": 1,
            "common-rows": 4,
            "unreached-weights": 3,
            "parallel-maps": 16,
        },
    ),
    "convolutions": (convolutions, {"bias-before-linear": 2, "linear-mixing": 4}),
    "flattened": (flattened, {"bias-before-linear": 2, "linear-mixing": 2}),
    "joined": (joined, {"bias-before-linear": 5, "linear-mixing": 8}),
    "dense": (dense, {"mean-against-bias": 9, "variance-against-weight": 9}),
    "preactivated": (
        preactivated,
        {"bias-before-batch-norm": 6, "mean-against-bias": 6, "variance-against-weight": 6},
    ),
    "convnext": (
        convnext,
        {"bias-before-layer-norm": 3, "bias-before-linear": 6, "common-rows": 5, "unreached-weights": 6},
    ),
    "strided": (
        strided,
        {"added-biases": 2, "mean-against-bias": 4, "variance-against-weight": 4, "parallel-maps": 4},
    ),
    "layer-scale": (layer_scale, {"added-biases": 4}),
    "average-pool": (lambda s: pooled_bias(s, "average"), {"bias-before-linear": 2, "linear-mixing": 2}),
    "max-pool": (lambda s: pooled_bias(s, "max"), {"bias-before-linear": 2}),
}
