"""symmetry/extras/value_shapes.py: shapes of a graph's values as far as they are known. Knows ops; no weights, no symmetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from nfn_cli.graph.model import Graph, Op

# One entry an axis, None for an unknown length; None in place of the whole: nothing is known.
Shape = tuple[int | None, ...] | None
_Known = tuple[int | None, ...]

_SAME = {"batch_norm", "layer_norm", "pointwise", "scale", "scalar", "normalize", "rms_normalize", "softmax", "clip"}


def value_shapes(graph: Graph) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {entry.name: tuple(entry.shape) for entry in graph.inputs}
    for op in graph.ops:
        shapes[op.output] = _shape(op, [shapes.get(name) for name in op.inputs], graph.parameter_shapes)
    return shapes


def _shape(op: Op, inputs: list[Shape], parameters: Mapping[str, tuple[int, ...]]) -> Shape:
    known = [shape for shape in inputs if shape is not None]
    if len(known) < len(inputs):
        return None
    if op.kind in _SAME:
        return known[0]
    if op.kind in _RULES:
        return _RULES[op.kind](op, known, parameters)
    shape = op.attributes.get("shape")
    return None if shape is None else tuple(int(n) if n else None for n in shape)


def _linear(op: Op, inputs: list[_Known], parameters: Mapping[str, tuple[int, ...]]) -> Shape:
    return (*inputs[0][:-1], parameters[op.parameters["weight"]][op.attributes["out_axis"]])


def _conv(op: Op, inputs: list[_Known], parameters: Mapping[str, tuple[int, ...]]) -> Shape:
    weight: _Known = inputs[1] if len(inputs) > 1 else parameters[op.parameters["weight"]]
    out = weight[op.attributes["out_axis"]]
    if op.attributes.get("transposed") and out is not None:
        out *= int(op.attributes.get("groups", 1))
    return (inputs[0][0], out, *_size(op, inputs[0]))


def _size(op: Op, value: _Known) -> _Known:
    return tuple(op.attributes.get("size") or (None,) * (len(value) - 2))


def _flatten(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    lengths = inputs[0][1:]
    if op.attributes.get("positions") is not None:
        lengths = (inputs[0][1], int(op.attributes["positions"]))
    known = [n for n in lengths if n is not None]
    return (inputs[0][0], prod(known) if len(known) == len(lengths) else None)


def _broadcast(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    rank = max(len(shape) for shape in inputs)
    padded = [(1,) * (rank - len(shape)) + shape for shape in inputs]
    return tuple(_longest(lengths) for lengths in zip(*padded, strict=True))


def _longest(lengths: tuple[int | None, ...]) -> int | None:
    return next((n for n in lengths if n is not None and n != 1), None if None in lengths else 1)


def _concat(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    if len({len(shape) for shape in inputs}) > 1:
        return None
    axis = op.attributes["axis"] % len(inputs[0])
    lengths = [shape[axis] for shape in inputs]
    total = None if None in lengths else sum(n or 0 for n in lengths)
    return (*inputs[0][:axis], total, *inputs[0][axis + 1 :])


def _slice(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    at = op.attributes
    axis = at["axis"] % len(inputs[0])
    return (*inputs[0][:axis], len(range(at["start"], at["stop"], at.get("step", 1))), *inputs[0][axis + 1 :])


def _pad(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    amounts = zip(inputs[0], op.attributes["before"], op.attributes["after"], strict=True)
    return tuple(None if n is None else n + b + a for n, b, a in amounts)


def _reduce(op: Op, inputs: list[_Known], _: Mapping[str, tuple[int, ...]]) -> Shape:
    axes = {axis % len(inputs[0]) for axis in op.attributes["axes"]}
    return tuple(1 if axis in axes else n for axis, n in enumerate(inputs[0]))


_RULES: dict[str, Callable[[Op, list[_Known], Mapping[str, tuple[int, ...]]], Shape]] = {
    "linear": _linear,
    "conv": _conv,
    "flatten": _flatten,
    "add": _broadcast,
    "mul": _broadcast,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "reduce": _reduce,
    **dict.fromkeys(("max_pool", "average_pool", "pool", "resize"), lambda op, i, _: (*i[0][:2], *_size(op, i[0]))),
    "spatial_mean": lambda op, i, _: i[0][:2],
    "reshape": lambda op, i, _: tuple(int(n) for n in op.attributes["shape"]),
    "expand": lambda op, i, _: tuple(int(n) for n in op.attributes["shape"]),
    "permute": lambda op, i, _: tuple(i[0][axis] for axis in op.attributes["order"]),
    "parameter": lambda op, i, p: p[op.parameters["value"]],
    "constant": lambda op, i, _: tuple(np.shape(op.attributes["value"])),
}
