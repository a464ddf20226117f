"""canonical/reduction/intervals.py: what each unit can be for inputs in a range: interval arithmetic, once through the graph.

Bounds hold for exact arithmetic on the stored weights; they are widened by what float64 rounding could have taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nfn_cli.canonical.reduction.layout import Layout
from nfn_cli.canonical.reduction.movement import Lengths, movement
from nfn_cli.canonical.reduction.reading import Tensors, padded, reading_of
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Op
from nfn_cli.symmetry.element import FloatArray

_ROUNDING = float(np.finfo(np.float64).eps)
_CHUNK_ENTRIES = 1 << 20

# Never falling, so the ends of an interval lead to the ends of its image.
_RISING = frozenset(
    {"identity", "relu", "squared_relu", "tanh", "erf", "softsign", "hardtanh", "arctan", "asinh", "sigmoid", "elu"}
    | {"celu", "selu", "softplus", "relu6", "hardsigmoid", "exp", "logsigmoid", "tanhshrink"}
)
# Falling, then rising: the largest value is at an end. Below 0 they get no lower than this (0: the turn is there).
_VALLEYS = {"abs": 0.0, "square": 0.0, "leaky_relu": 0.0, "prelu": 0.0}
_VALLEYS |= {"silu": -0.2785, "gelu": -0.1701, "gelu_tanh": -0.1701, "mish": -0.3089, "hardswish": -0.3751}
_WITHIN = {"sin": (-1.0, 1.0), "cos": (-1.0, 1.0), "finer": (-1.0, 1.0), "gaussian": (0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Bounds:
    """(n,) least and largest value of each slot along one axis, counted from the end."""

    axis: int
    low: FloatArray
    high: FloatArray


@dataclass
class Intervals:
    """One network's values, bounded; a value without an entry may be anything."""

    graph: Graph
    layout: Layout
    network: int
    tensors: Tensors
    values: dict[str, Bounds] = field(default_factory=dict)

    def lengths(self, name: str) -> Lengths:
        axes = self.layout.values[self.network][name]
        return tuple(len(axis) if isinstance(axis, np.ndarray) else axis for axis in axes)

    def along(self, name: str, axis: int) -> Bounds | None:
        """Bounds along this axis; from another axis, one interval for all."""
        found = self.values.get(name)
        if found is None or found.axis == axis:
            return found
        lengths = self.lengths(name)
        n = lengths[axis] if -axis <= len(lengths) else None
        return None if n is None else Bounds(axis, np.full(n, found.low.min()), np.full(n, found.high.max()))

    def vector(self, op: Op, role: str, n: int, default: float) -> FloatArray:
        if role not in op.parameters:
            return np.full(n, default)
        values = np.asarray(self.tensors[op.parameters[role]]).astype(np.float64).reshape(-1)
        return np.broadcast_to(values, (n,))


def find_bounds(
    graph: Graph, layout: Layout, network: int, tensors: Tensors, low: float, high: float
) -> dict[str, Bounds]:
    """Value -> what its slots can be when every entry of every input lies in [low, high]."""
    at = Intervals(graph, layout, network, tensors)
    for entry in graph.inputs:
        axis = -1 if len(entry.shape) < 3 else 1 - len(entry.shape)
        n = at.lengths(entry.name)[axis] if entry.shape else None
        if n is not None:
            at.values[entry.name] = Bounds(axis, np.full(n, low), np.full(n, high))
    for op in graph.ops:
        made = _BOUNDS[op.kind](op, at) if op.kind in _BOUNDS else None
        if made is not None and np.isfinite(made.low).all() and np.isfinite(made.high).all():
            at.values[op.output] = made
    return at.values


def _channels(op: Op, at: Intervals) -> Bounds | None:
    return at.along(op.inputs[0], 1 - len(at.lengths(op.inputs[0])))


def _with_zero(x: Bounds, wanted: bool) -> Bounds:
    return replace(x, low=np.minimum(x.low, 0.0), high=np.maximum(x.high, 0.0)) if wanted else x


def _layer(op: Op, at: Intervals) -> Bounds | None:
    x = at.along(op.inputs[0], -1) if op.kind == "linear" else _channels(op, at)
    reading = reading_of(op, at.tensors, 0.0)
    if x is None or reading is None:
        return None
    g, o, i, k = reading.view.shape
    if len(x.low) != g * i:
        return None
    x = _with_zero(x, padded(op))  # also where a transposed kernel leaves positions out
    middle, radius = ((x.high + x.low) / 2).reshape(g, i), ((x.high - x.low) / 2).reshape(g, i)
    low, high = np.empty(g * o), np.empty(g * o)
    bias = at.vector(op, "bias", g * o, 0.0)
    step = max(1, _CHUNK_ENTRIES // max(1, i * k))
    for start in range(0, g * o, step):
        rows = np.arange(start, min(start + step, g * o))
        weight = reading.view[rows // o, rows % o].astype(np.float64)
        centre, reach = middle[rows // o], radius[rows // o]
        size = np.abs(weight).sum(axis=2)
        # every position of the kernel may see another value of the interval
        middle_value, off = (weight.sum(axis=2) * centre).sum(axis=1), (size * reach).sum(axis=1)
        top, bottom = middle_value + off, middle_value - off
        lost = _ROUNDING * (i * k + 8) * ((size * (np.abs(centre) + reach)).sum(axis=1) + np.abs(bias[rows]))
        low[rows], high[rows] = bottom + bias[rows] - lost, top + bias[rows] + lost
    return Bounds(x.axis, low, high)


def _scaled(x: Bounds, gain: FloatArray, add: FloatArray) -> Bounds:
    ends = np.stack([gain * x.low, gain * x.high])
    lost = 8 * _ROUNDING * (np.abs(ends).max(axis=0) + np.abs(add))
    return replace(x, low=ends.min(axis=0) + add - lost, high=ends.max(axis=0) + add + lost)


def _batch_norm(op: Op, at: Intervals) -> Bounds | None:
    x = _channels(op, at)
    if x is None:
        return None
    n = len(x.low)
    variance = at.vector(op, "running_var", n, 1.0) + float(op.attributes.get("eps", 1e-5))
    gain = at.vector(op, "weight", n, 1.0) / np.sqrt(variance)
    shift = at.vector(op, "running_mean", n, 0.0)
    out = _scaled(x, gain, at.vector(op, "bias", n, 0.0) - gain * shift)
    lost = 8 * _ROUNDING * np.abs(gain * shift)
    return replace(out, low=out.low - lost, high=out.high + lost)


def _scale(op: Op, at: Intervals) -> Bounds | None:
    rank = len(at.lengths(op.inputs[0]))
    x = at.along(op.inputs[0], op.attributes["axis"] % rank - rank)
    return None if x is None else _scaled(x, at.vector(op, "weight", len(x.low), 1.0), np.zeros(len(x.low)))


def _scalar(op: Op, at: Intervals) -> Bounds | None:
    x = at.values.get(op.inputs[0])
    if x is None:
        return None
    gain, add = float(op.attributes.get("multiply", 1.0)), float(op.attributes.get("add", 0.0))
    return _scaled(x, np.full(len(x.low), gain), np.full(len(x.low), add))


def _pointwise(op: Op, at: Intervals) -> Bounds | None:
    x, name = at.values.get(op.inputs[0]), op.attributes["function"]
    if x is None or name not in ACTIVATIONS:
        return None
    if name in _WITHIN:
        low, high = _WITHIN[name]
        return replace(x, low=np.full(len(x.low), low), high=np.full(len(x.high), high))
    rank = len(at.lengths(op.inputs[0]))
    if "weight" in op.parameters and rank > 1:
        x = at.along(op.inputs[0], 1 - rank)
    if x is None:
        return None
    activation = ACTIVATIONS[name]
    stated = float(op.attributes.get("omega", op.attributes.get("slope", activation.parameter)))
    parameter = at.vector(op, "weight", len(x.low), stated)
    ends = np.stack([np.asarray(activation.formula(end, parameter)) for end in (x.low, x.high)])
    if name not in _RISING:
        if name not in _VALLEYS:
            return None
        inside = (x.low < 0) & ((x.high > 0) | (_VALLEYS[name] < 0))
        ends = np.concatenate([ends, np.where(inside, _VALLEYS[name], ends[0])[None]])
    lost = 8 * _ROUNDING * np.abs(ends).max(axis=0)
    # 0 is exact, and what rounds to it must not look as if it could be below
    low, high = ends.min(axis=0), ends.max(axis=0)
    return replace(x, low=np.where(low == 0, 0.0, low - lost), high=np.where(high == 0, 0.0, high + lost))


def _average_pool(op: Op, at: Intervals) -> Bounds | None:
    x = _channels(op, at)
    return None if x is None else _with_zero(x, bool(np.any(op.attributes.get("padding", 0))))


def _spatial_mean(op: Op, at: Intervals) -> Bounds | None:
    x = _channels(op, at)
    return None if x is None else replace(x, axis=-1)


def _reduce(op: Op, at: Intervals) -> Bounds | None:
    x, rank = at.values.get(op.inputs[0]), len(at.lengths(op.inputs[0]))
    reduced = {axis % rank for axis in op.attributes["axes"]}
    if x is None or op.attributes["statistic"] not in ("mean", "max", "min"):
        return None
    return x if rank + x.axis not in reduced else None


def _clip(op: Op, at: Intervals) -> Bounds | None:
    x = at.values.get(op.inputs[0])
    low, high = op.attributes.get("low"), op.attributes.get("high")
    if x is None or (low is None and high is None):
        return x
    return replace(x, low=np.clip(x.low, low, high), high=np.clip(x.high, low, high))


def _parameter(op: Op, at: Intervals) -> Bounds | None:
    tensor = np.asarray(at.tensors[op.parameters["value"]]).astype(np.float64)
    if tensor.ndim == 0 or tensor.size == 0:
        return None
    axis = int(np.argmax(tensor.shape))
    others = tuple(a for a in range(tensor.ndim) if a != axis)
    return Bounds(axis - tensor.ndim, tensor.min(axis=others), tensor.max(axis=others))


def _combined(op: Op, at: Intervals) -> Bounds | None:
    known = [at.values.get(name) for name in op.inputs]
    if any(x is None for x in known):
        return None
    axis = known[0].axis if known[0] is not None else -1
    parts = [at.along(name, axis) if -axis <= len(at.lengths(name)) else None for name in op.inputs]
    out: Bounds | None = None
    for x in parts:
        if x is None:
            return None
        out = x if out is None else _pair(op.kind, out, x)
        if out is None:
            return None
    return out


def _pair(kind: str, left: Bounds, right: Bounds) -> Bounds | None:
    if len(left.low) != len(right.low) and 1 not in (len(left.low), len(right.low)):
        return None
    if kind == "add":
        low, high = left.low + right.low, left.high + right.high
    else:
        ends = np.stack([a * b for a in (left.low, left.high) for b in (right.low, right.high)])
        low, high = ends.min(axis=0), ends.max(axis=0)
    lost = 8 * _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return Bounds(left.axis, np.where(low == 0, 0.0, low - lost), np.where(high == 0, 0.0, high + lost))


def _pad(op: Op, at: Intervals) -> Bounds | None:
    x = at.values.get(op.inputs[0])
    if x is None:
        return None
    place = len(at.lengths(op.inputs[0])) + x.axis
    if op.attributes["before"][place] or op.attributes["after"][place]:
        return None
    if "mode" in op.attributes:
        return x
    value = float(op.attributes.get("value", 0.0))
    return replace(x, low=np.minimum(x.low, value), high=np.maximum(x.high, value))


def _filter(op: Op, at: Intervals) -> Bounds | None:
    x = _channels(op, at)
    if x is None:
        return None
    kernel = np.asarray(op.attributes["kernel"], np.float64)
    up, down = np.maximum(kernel, 0).sum(), np.minimum(kernel, 0).sum()
    x = _with_zero(x, True)
    low, high = up * x.low + down * x.high, up * x.high + down * x.low
    lost = 8 * _ROUNDING * kernel.size * np.maximum(np.abs(low), np.abs(high))
    return replace(x, low=low - lost, high=high + lost)


def _moved(op: Op, at: Intervals) -> Bounds | None:
    parts = [at.values.get(name) for name in op.inputs]
    axes: Sequence[int | None] = [None if x is None else x.axis for x in parts]
    moved = movement(op, axes, [at.lengths(name) for name in op.inputs], at.lengths(op.output))
    known = [x for x in parts if x is not None]
    if moved is None:
        return None
    low, high = (np.concatenate([getattr(x, end) for x in known]) for end in ("low", "high"))
    if len(moved.index) and moved.index.max() >= len(low):
        return None
    return Bounds(moved.axis, low[moved.index], high[moved.index])


def _largest(op: Op, at: Intervals) -> Bounds | None:
    return _channels(op, at)


_BOUNDS: dict[str, Callable[[Op, Intervals], Bounds | None]] = {
    "linear": _layer,
    "conv": _layer,
    "batch_norm": _batch_norm,
    "scale": _scale,
    "scalar": _scalar,
    "pointwise": _pointwise,
    "max_pool": _largest,
    "pool": _largest,
    "resize": _largest,
    "average_pool": _average_pool,
    "spatial_mean": _spatial_mean,
    "reduce": _reduce,
    "clip": _clip,
    "parameter": _parameter,
    "add": _combined,
    "mul": _combined,
    "pad": _pad,
    "filter": _filter,
    **dict.fromkeys(("permute", "reshape", "flatten", "slice", "concat", "expand"), _moved),
}
