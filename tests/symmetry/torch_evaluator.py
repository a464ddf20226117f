"""A second evaluator of graphs, in torch, written apart from graph/reference.py: it can be differentiated and batched over weights.

It knows the vocabulary of graph/model.py and what each op computes; no symmetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.graph.model import Graph, Op

Evaluator = Callable[[Op, list[Tensor], Mapping[str, Tensor]], Tensor]

POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "squared_relu": lambda z: torch.relu(z) ** 2,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu6": lambda z: torch.clamp(z, 0, 6),
    "hardswish": lambda z: z * torch.clamp(z + 3, 0, 6) / 6,
    "hardsigmoid": lambda z: torch.clamp(z + 3, 0, 6) / 6,
    "hardtanh": lambda z: torch.clamp(z, -1, 1),
    "abs": torch.abs,
    "square": lambda z: z * z,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
}


def run(
    graph: Graph, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor], normalized: bool = False
) -> Tensor:
    """All outputs of the graph, one after another, flat.

    Args:
        normalized: also what every batch norm makes of its input before its gain and bias.
    """
    values, shown = dict(inputs), []
    for op in graph.ops:
        values[op.output] = EVALUATORS[op.kind](op, [values[name] for name in op.inputs], parameters)
        if normalized and op.kind == "batch_norm":
            shown.append(_standardized(op, values[op.inputs[0]], parameters))
    return torch.cat([value.reshape(-1) for value in (*(values[name] for name in graph.outputs), *shown)])


def _spread(vector: Tensor, axis: int, rank: int) -> Tensor:
    return vector.reshape([-1 if position == axis % rank else 1 for position in range(rank)])


def _conv(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    x, at = inputs[0], op.attributes
    weight = inputs[1] if len(inputs) > 1 else p[op.parameters["weight"]]
    rank = x.ndim - 2
    bias = p[op.parameters["bias"]] if "bias" in op.parameters else None
    groups, transposed = at.get("groups", 1), at.get("transposed", False)
    how = {name: at.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))}
    assert (at["out_axis"], at["in_axis"]) == ((1, 0) if transposed else (0, 1))
    name = f"conv{'_transpose' if transposed else ''}{rank}d"
    out: Tensor = getattr(functional, name)(x, weight, bias, groups=groups, **how)
    return out


def _linear(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    weight = p[op.parameters["weight"]]
    out = inputs[0] @ (weight.T if op.attributes["out_axis"] == 0 else weight)
    return out + p[op.parameters["bias"]] if "bias" in op.parameters else out


def _affine(x: Tensor, op: Op, p: Mapping[str, Tensor], axis: int) -> Tensor:
    if "weight" in op.parameters:
        x = x * _spread(p[op.parameters["weight"]], axis, x.ndim)
    return x + _spread(p[op.parameters["bias"]], axis, x.ndim) if "bias" in op.parameters else x


def _standardized(op: Op, x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    mean, var = (_spread(p[op.parameters[role]], 1, x.ndim) for role in ("running_mean", "running_var"))
    return (x - mean) * torch.rsqrt(var + op.attributes["eps"])


def _batch_norm(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    return _affine(_standardized(op, inputs[0], p), op, p, 1)


def _standard(x: Tensor, axes: Any, eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)


def _normalize(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    groups = op.attributes.get("groups")
    if not groups:
        return _standard(x, tuple(op.attributes["axes"]), op.attributes["eps"])
    return _standard(x.reshape(x.shape[0], groups, -1), (2,), op.attributes["eps"]).reshape(x.shape)


def _rms_normalize(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    return x * torch.rsqrt((x * x).mean(tuple(op.attributes["axes"]), keepdim=True) + op.attributes["eps"])


def _pointwise(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    if op.attributes["function"] not in ("prelu", "leaky_relu"):
        return POINTWISE[op.attributes["function"]](x)
    slope = op.attributes.get("slope", 0.01)
    if "weight" in op.parameters:
        slope = p[op.parameters["weight"]]
        slope = slope.reshape(()) if slope.numel() == 1 else _spread(slope, 1, x.ndim)
    return torch.where(x > 0, x, slope * x)


def _pooled(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    """Non-overlapping windows without padding are all that the tests need."""
    (x,) = inputs
    kernel = op.attributes["kernel"]
    assert op.attributes.get("stride", kernel) == kernel
    assert not op.attributes.get("padding")
    for axis in range(2, x.ndim):
        x = x.narrow(axis, 0, x.shape[axis] // kernel * kernel).unflatten(axis, (-1, kernel))
        x = x.mean(axis + 1) if op.kind == "average_pool" else x.amax(axis + 1)
    return x


def _pool(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    for axis, target in enumerate(op.attributes["size"], start=2):
        n = x.shape[axis]
        bins = [x.narrow(axis, i * n // target, -(-(i + 1) * n // target) - i * n // target) for i in range(target)]
        average = op.attributes["statistic"] == "average"
        x = torch.stack([part.mean(axis) if average else part.amax(axis) for part in bins], axis)
    return x


def _reduce(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    axes = tuple(op.attributes["axes"])
    how: dict[str, Callable[[], Tensor]] = {
        "mean": lambda: x.mean(axes, keepdim=True),
        "sum": lambda: x.sum(axes, keepdim=True),
        "max": lambda: x.amax(axes, keepdim=True),
        "min": lambda: x.amin(axes, keepdim=True),
        "norm": lambda: (x * x).sum(axes, keepdim=True).sqrt(),
        "variance": lambda: ((x - x.mean(axes, keepdim=True)) ** 2).mean(axes, keepdim=True),
    }
    return how[op.attributes["statistic"]]()


def _flatten(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    (x,) = inputs
    return (x.movedim(1, -1) if op.attributes.get("order") == "channel_inner" else x).flatten(1)


def _pad(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    pairs = [
        n for pair in reversed(list(zip(op.attributes["before"], op.attributes["after"], strict=True))) for n in pair
    ]
    return functional.pad(inputs[0], pairs, value=op.attributes.get("value", 0.0))


def _slice(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    at = op.attributes
    window = [slice(None)] * inputs[0].ndim
    window[at["axis"]] = slice(at["start"], at["stop"], at.get("step", 1))
    return inputs[0][tuple(window)]


def _product(op: Op, inputs: list[Tensor], p: Mapping[str, Tensor]) -> Tensor:
    total = inputs[0]
    for value in inputs[1:]:
        total = total * value
    return total


EVALUATORS: dict[str, Evaluator] = {
    "linear": _linear,
    "conv": _conv,
    "batch_norm": _batch_norm,
    "layer_norm": lambda op, v, p: _affine(_standard(v[0], (-1,), op.attributes.get("eps", 1e-5)), op, p, -1),
    "normalize": _normalize,
    "rms_normalize": _rms_normalize,
    "pointwise": _pointwise,
    "max_pool": _pooled,
    "average_pool": _pooled,
    "pool": _pool,
    "spatial_mean": lambda op, v, p: v[0].flatten(2).mean(2),
    "flatten": _flatten,
    "add": lambda op, v, p: v[0] + v[1] if len(v) == 2 else v[0] + v[1] + v[2],
    "mul": _product,
    "scale": lambda op, v, p: v[0] * _spread(p[op.parameters["weight"]].reshape(-1), op.attributes["axis"], v[0].ndim),
    "scalar": lambda op, v, p: v[0] * op.attributes.get("multiply", 1.0) + op.attributes.get("add", 0.0),
    "parameter": lambda op, v, p: p[op.parameters["value"]],
    "constant": lambda op, v, p: torch.tensor(op.attributes["value"], dtype=torch.float64),
    "reshape": lambda op, v, p: v[0].reshape(op.attributes["shape"]),
    "permute": lambda op, v, p: v[0].permute(op.attributes["order"]),
    "expand": lambda op, v, p: v[0].expand(op.attributes["shape"]),
    "slice": _slice,
    "pad": _pad,
    "reduce": _reduce,
    "resize": lambda op, v, p: functional.interpolate(v[0], tuple(op.attributes["size"]), mode="nearest"),
    "softmax": lambda op, v, p: v[0].softmax(op.attributes["axis"]),
    "matmul": lambda op, v, p: v[0] @ v[1],
    "clip": lambda op, v, p: v[0].clamp(op.attributes.get("low"), op.attributes.get("high")),
    "concat": lambda op, v, p: torch.cat(v, op.attributes["axis"]),
    "aten.logcumsumexp": lambda op, v, p: v[0].exp().cumsum(op.attributes["axis"]).log(),
}
