"""Small random networks of every kind the symmetry rules know, as graphs with float64 weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph, GraphInput, Network, Op

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


class Builder:
    """Collects ops and random weights.

    Args:
        bias: whether layers have one unless they say otherwise.
        side: length of both spatial axes, where the graph says it.
    """

    def __init__(self, seed: int, inputs: list[GraphInput], bias: bool = True, side: int | None = None) -> None:
        self.random = np.random.default_rng(seed)
        self.inputs, self.ops, self.tensors = inputs, [], {}
        self.count, self.bias, self.side = 0, bias, side

    def op(self, kind: str, inputs: list[str], parameters: dict[str, str] | None = None, **attributes: Any) -> str:
        self.count += 1
        self.ops.append(Op(kind, tuple(inputs), f"v{self.count}", parameters or {}, attributes))
        return f"v{self.count}"

    def tensor(self, name: str, *shape: int, positive: bool = False) -> str:
        values = self.random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        self.tensors[name] = np.abs(values) + 0.1 if positive else values
        return name

    def _layer(
        self, kind: str, x: str, name: str, shape: tuple[int, ...], out: int, bias: bool | None, **how: Any
    ) -> str:
        roles = {"weight": self.tensor(f"{name}.weight", *shape)}
        if self.bias if bias is None else bias:
            roles["bias"] = self.tensor(f"{name}.bias", out)
        return self.op(kind, [x], roles, **how)

    def linear(self, x: str, name: str, out: int, into: int, bias: bool | None = None) -> str:
        return self._layer("linear", x, name, (out, into), out, bias, out_axis=0, in_axis=1)

    def conv(
        self, x: str, name: str, out: int, into: int, k: int = 3, groups: int = 1, bias: bool | None = None
    ) -> str:
        how = {"size": (self.side, self.side)} if self.side else {}
        shape = (out, into // groups, k, k)
        return self._layer(
            "conv", x, name, shape, out, bias, out_axis=0, in_axis=1, padding=k // 2, groups=groups, **how
        )

    def transposed_conv(self, x: str, name: str, out: int, into: int, k: int = 3, groups: int = 1) -> str:
        how = {"out_axis": 1, "in_axis": 0, "transposed": True, "padding": k // 2, "groups": groups}
        how |= {"size": (self.side, self.side)} if self.side else {}
        return self._layer("conv", x, name, (into, out // groups, k, k), out, None, **how)

    def norm(self, x: str, name: str, n: int, affine: bool = True) -> str:
        roles = {
            "running_mean": self.tensor(f"{name}.running_mean", n),
            "running_var": self.tensor(f"{name}.running_var", n, positive=True),
        }
        if affine:
            roles |= {"weight": self.tensor(f"{name}.weight", n), "bias": self.tensor(f"{name}.bias", n)}
        return self.op("batch_norm", [x], roles, eps=1e-5)

    def layer_norm(self, x: str, name: str, n: int, affine: bool = True) -> str:
        """ε is large: a symmetry that holds only up to ε must be seen not to hold."""
        roles = {"weight": self.tensor(f"{name}.weight", n), "bias": self.tensor(f"{name}.bias", n)} if affine else {}
        return self.op("layer_norm", [x], roles, eps=0.3, axes=(-1,))

    def gain_and_bias(self, x: str, name: str, n: int, axis: int = 1, rank: int = 4) -> str:
        x = self.op("scale", [x], {"weight": self.tensor(f"{name}.weight", n)}, axis=axis)
        return self.op("add", [x, self.parameter(f"{name}.bias", *(n if a == axis else 1 for a in range(rank)))])

    def parameter(self, name: str, *shape: int, trained: bool = True) -> str:
        return self.op("parameter", [], {"value": self.tensor(name, *shape)}, **({} if trained else {"trained": False}))

    def act(self, x: str, function: str, **attributes: Any) -> str:
        return self.op("pointwise", [x], function=function, **attributes)

    def prelu(self, x: str, name: str, slopes: int) -> str:
        return self.op("pointwise", [x], {"weight": self.tensor(f"{name}.weight", slopes)}, function="prelu")

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("reshape", [x], shape=list(shape))

    def permute(self, x: str, *order: int) -> str:
        return self.op("permute", [x], order=list(order))

    def part(self, x: str, start: int, stop: int, axis: int = 1) -> str:
        return self.op("slice", [x], axis=axis, start=start, stop=stop, step=1)

    def reduce(self, x: str, statistic: str, *axes: int) -> str:
        return self.op("reduce", [x], axes=list(axes), statistic=statistic)

    def head(self, x: str, n: int, out: int = 3, name: str = "fc") -> str:
        return self.linear(self.op("spatial_mean", [x]), name, out, n)

    def network(self, *outputs: str, family: str = "cnn") -> tuple[Network, Tensors]:
        shapes = {name: array.shape for name, array in self.tensors.items()}
        graph = Graph(tuple(self.inputs), tuple(self.ops), outputs, shapes)
        functions = tuple(dict.fromkeys(op.attributes["function"] for op in self.ops if op.kind == "pointwise"))
        return Network("", family, graph, functions, "test"), self.tensors


def mlp(seed: int, function: str, widths: tuple[int, ...] = (5, 7, 6, 3), **attributes: Any) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, widths[0]))])
    x = "x"
    for layer, (into, out) in enumerate(itertools.pairwise(widths)):
        x = b.linear(x, f"layers.{layer}", out, into)
        if layer < len(widths) - 2:
            x = b.act(x, function, **attributes)
    return b.network(x, family="mlp")


def cnn(seed: int, function: str, norm: bool = True, pool: str = "average") -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x, into = "x", 2
    for layer, out in enumerate((5, 6)):
        x = b.conv(x, f"conv{layer}", out, into)
        if norm:
            x = b.norm(x, f"bn{layer}", out)
        x = b.act(x, function)
        into = out
    x = b.op("pool", [x], size=(2, 2), statistic=pool)
    x = b.op("flatten", [x])
    x = b.linear(x, "fc0", 8, into * 4)
    x = b.act(x, function)
    return b.network(b.linear(x, "fc1", 3, 8))


def residual(seed: int, function: str) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x = b.act(b.norm(b.conv("x", "stem", 6, 2), "stem_bn", 6), function)
    for block in range(2):
        y = b.act(b.norm(b.conv(x, f"b{block}.c1", 5, 6), f"b{block}.n1", 5), function)
        y = b.norm(b.conv(y, f"b{block}.c2", 6, 5), f"b{block}.n2", 6)
        x = b.act(b.op("add", [x, y]), function)
    return b.network(b.linear(b.op("spatial_mean", [x]), "fc", 3, 6))


def concatenation(seed: int, function: str) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 5)), GraphInput("u", (None, 2))])
    x = b.act(b.linear("x", "left", 6, 5), function)
    y = b.act(b.linear("x", "right", 4, 5), function)
    z = b.op("concat", [x, y, "u"], axis=1)
    z = b.act(b.linear(z, "mid", 7, 12), function)
    return b.network(b.linear(z, "out", 2, 7), family="mlp")


def depthwise(seed: int, function: str) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x = b.act(b.conv("x", "a", 6, 2), function)
    x = b.act(b.norm(b.conv(x, "dw", 12, 6, groups=6), "bn", 12), function)
    x = b.act(b.conv(x, "g", 8, 12, groups=2), function)
    return b.network(b.linear(b.op("spatial_mean", [x]), "fc", 3, 8))


def grouped(seed: int, function: str) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x = b.act(b.conv(x="x", name="a", out=6, into=2), function)
    x = b.act(b.conv(x, "g", 12, 6, groups=3), function)
    return b.network(b.linear(b.op("spatial_mean", [x]), "fc", 3, 12))


def normalized(seed: int, function: str) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 5))])
    x = b.linear("x", "a", 6, 5)
    roles = {"weight": b.tensor("ln.weight", 6), "bias": b.tensor("ln.bias", 6)}
    x = b.act(b.op("layer_norm", [x], roles), function)
    return b.network(b.linear(x, "b", 3, 6), family="mlp")


def autoencoder(seed: int, function: str) -> tuple[Network, Tensors]:
    """Two layers that share one weight (a tensor read by two ops)."""
    b = Builder(seed, [GraphInput("x", (None, 6))])
    x = b.act(b.linear("x", "a", 6, 6), function)
    x = b.act(b.op("linear", [x], {"weight": "a.weight", "bias": "a.bias"}, out_axis=0, in_axis=1), function)
    return b.network(b.linear(x, "out", 3, 6), family="mlp")


ALL: dict[str, Callable[[int], tuple[Network, Tensors]]] = {
    **{f"mlp-{f}": (lambda seed, f=f: mlp(seed, f)) for f in ("relu", "leaky_relu", "squared_relu", "identity")},
    **{f"mlp-{f}": (lambda seed, f=f: mlp(seed, f)) for f in ("tanh", "abs", "square", "gaussian", "gelu", "sigmoid")},
    **{f"mlp-{f}": (lambda seed, f=f: mlp(seed, f, omega=3.0)) for f in ("sin", "cos")},
    **{f"cnn-{f}": (lambda seed, f=f: cnn(seed, f)) for f in ("relu", "tanh", "silu")},
    "cnn-relu-max": lambda seed: cnn(seed, "relu", norm=False, pool="unknown"),
    "cnn-tanh-max": lambda seed: cnn(seed, "tanh", norm=False, pool="unknown"),
    **{f"residual-{f}": (lambda seed, f=f: residual(seed, f)) for f in ("relu", "tanh")},
    **{f"concatenation-{f}": (lambda seed, f=f: concatenation(seed, f)) for f in ("relu", "tanh", "squared_relu")},
    **{f"depthwise-{f}": (lambda seed, f=f: depthwise(seed, f)) for f in ("relu", "tanh")},
    **{f"grouped-{f}": (lambda seed, f=f: grouped(seed, f)) for f in ("relu", "tanh")},
    **{f"normalized-{f}": (lambda seed, f=f: normalized(seed, f)) for f in ("relu", "tanh")},
    "autoencoder-relu": lambda seed: autoencoder(seed, "relu"),
}
