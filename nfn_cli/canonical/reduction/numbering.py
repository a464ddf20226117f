"""canonical/reduction/numbering.py: which slots of a network are the same function, up to a factor and a constant. One pass.

Each rule is exact for every input (or, where intervals are given, for every input in their range). What no rule knows gets
functions of its own: nothing is then said to be equal, and nothing merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.canonical.reduction.affine import Affine, Kinds, joined
from nfn_cli.canonical.reduction.duplicates import multiples
from nfn_cli.canonical.reduction.intervals import Bounds
from nfn_cli.canonical.reduction.layout import Layout
from nfn_cli.canonical.reduction.linear import Rows
from nfn_cli.canonical.reduction.movement import movement
from nfn_cli.canonical.reduction.precision import Precision
from nfn_cli.canonical.reduction.reading import Reading, Tensors, padded, reading_of, terms
from nfn_cli.graph.model import Graph, Op
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray

Step = Callable[[Op, "Numbering"], Affine | None]
STEPS: dict[str, Step] = {}


def step(*kinds: str) -> Callable[[Step], Step]:
    def register(function: Step) -> Step:
        for kind in kinds:
            STEPS[kind] = function
        return function

    return register


@dataclass
class Numbering:
    """One network's values, numbered.

    Attributes:
        linear: whether units that intervals prove always on count as linear.
        values: value -> one axis of it, the one that layers read.
        residual: value -> (n,) relative distance of each slot from the one it repeats.
        off: value -> (n,) units that intervals prove always off.
        rows: what functions are made of, for layers whose outputs may be combined.
    """

    graph: Graph
    layout: Layout
    network: int
    tensors: Tensors
    precision: Precision
    bounds: Mapping[str, Bounds]
    linear: bool
    kinds: Kinds
    values: dict[str, Affine] = field(default_factory=dict)
    residual: dict[str, FloatArray] = field(default_factory=dict)
    off: dict[str, BoolArray] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)

    def run(self) -> Numbering:
        for op in self.graph.ops:
            made = STEPS[op.kind](op, self) if op.kind in STEPS else None
            if made is not None:
                self.values[op.output] = made
        return self

    def on_axis(self, value: str, axis: int) -> Affine | None:
        """The slots of this axis; unknown ones where another axis was followed, None where it has no length."""
        found = self.values.get(value)
        if found is not None and found.axis == axis:
            return found
        n = self.layout.length(self.network, value, axis)
        if n is None:
            return None
        made = self.kinds.unknown(axis, n)
        if found is None:
            self.values[value] = made
        return made

    def rank(self, value: str) -> int:
        return len(self.layout.values[self.network][value])

    def channels(self, value: str) -> Affine | None:
        """Axis 1."""
        return self.on_axis(value, 1 - self.rank(value)) if self.rank(value) > 1 else None

    def vector(self, op: Op, role: str, n: int, default: float) -> FloatArray:
        """(n,) a tensor with one number for each slot, or one for all."""
        if role not in op.parameters:
            return np.full(n, default)
        values = np.asarray(self.tensors[op.parameters[role]]).astype(np.float64).reshape(-1)
        return np.broadcast_to(values, (n,)) if values.size in (1, n) else np.full(n, np.nan)

    def reading(self, op: Op) -> Reading | None:
        return reading_of(op, self.tensors, self.precision.rounding)


@step("linear", "conv")
def _layer(op: Op, at: Numbering) -> Affine | None:
    x = at.on_axis(op.inputs[0], -1) if op.kind == "linear" else at.channels(op.inputs[0])
    reading = at.reading(op)
    if x is None or reading is None:
        return None
    g, o, i, _ = reading.view.shape
    if len(x) != g * i:
        return None
    bias = at.vector(op, "bias", g * o, 0.0)
    blur = at.precision.rounding * np.abs(bias)
    if i == 1 and g > 1:
        return _each_alone(op, at, reading, x, bias)
    seen = terms(x, g, not padded(op), np.zeros(len(x), bool), at.precision.factors)
    added, uncertain = reading.constants(seen)
    key = np.repeat(np.arange(g), o)
    found = multiples(lambda index: reading.rows(seen, index), g * o, key, *at.precision.of_rows)
    at.residual[op.output] = found.residual
    first = at.kinds.count
    made = _made(at, x.axis, found.of, found.factor, bias + added, blur + uncertain)
    if at.linear and g == 1:
        lead = np.zeros(at.kinds.count - first, np.int64)
        known = np.flatnonzero(found.of >= 0)
        lead[made.kind[known] - first] = found.of[known]
        at.rows.append(Rows(first, lead, reading, seen))
    return made


def _each_alone(op: Op, at: Numbering, reading: Reading, x: Affine, bias: FloatArray) -> Affine:
    """A depthwise convolution: output slot i reads input slot i // multiplier."""
    g, o, _, k = reading.view.shape
    kernel = reading.view.reshape(g * o, k).astype(np.float64)
    x = x.taken(np.arange(g * o) // o)
    offset, blur = bias, at.precision.rounding * np.abs(bias)
    if not padded(op):
        offset = offset + kernel.sum(axis=1) * x.offset
        size = np.abs(kernel).sum(axis=1)
        blur = blur + size * (at.precision.rounding * np.abs(x.offset) + x.blur)
    x = at.kinds.spread(x, not padded(op))
    rows = np.where(x.constant[:, None], 0.0, kernel)
    found = multiples(lambda i: (rows[i], np.abs(rows[i])), g * o, x.kind, *at.precision.of_rows)
    at.residual[op.output] = found.residual
    lead = np.where(found.of >= 0, x.factor[found.of], 1.0)
    factor = np.where(found.of >= 0, found.factor * x.factor / lead, 0.0)
    return _made(at, x.axis, found.of, factor, offset, blur)


def _made(at: Numbering, axis: int, of: IntArray, factor: FloatArray, offset: FloatArray, blur: FloatArray) -> Affine:
    constant = of < 0
    kind = at.kinds.numbered(constant, [of], [])
    return Affine(axis, kind, np.where(constant, 0.0, factor), offset, blur)


@step("batch_norm")
def _batch_norm(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    if x is None:
        return None
    n = len(x)
    variance = at.vector(op, "running_var", n, 1.0) + float(op.attributes.get("eps", 1e-5))
    gain = at.vector(op, "weight", n, 1.0) / np.sqrt(variance)
    mean, bias = at.vector(op, "running_mean", n, 0.0), at.vector(op, "bias", n, 0.0)
    rounding = at.precision.rounding
    offset = bias + gain * (x.offset - mean)
    blur = np.abs(gain) * (x.blur + rounding * (np.abs(x.offset) + np.abs(mean))) + rounding * np.abs(bias)
    return _scaled(x, gain, offset, blur)


def _scaled(x: Affine, gain: FloatArray, offset: FloatArray, blur: FloatArray) -> Affine:
    factor = x.factor * gain
    return Affine(x.axis, np.where(factor == 0, 0, x.kind), factor, offset, blur)


@step("scale")
def _scale(op: Op, at: Numbering) -> Affine | None:
    rank = at.rank(op.inputs[0])
    x = at.on_axis(op.inputs[0], op.attributes["axis"] % rank - rank)
    if x is None:
        return None
    gain = at.vector(op, "weight", len(x), 1.0)
    return _scaled(x, gain, gain * x.offset, np.abs(gain) * x.blur)


@step("scalar")
def _scalar(op: Op, at: Numbering) -> Affine | None:
    x = at.values.get(op.inputs[0])
    if x is None:
        return None
    gain, add = float(op.attributes.get("multiply", 1.0)), float(op.attributes.get("add", 0.0))
    return _scaled(x, np.full(len(x), gain), gain * x.offset + add, abs(gain) * x.blur)


@step("parameter")
def _parameter(op: Op, at: Numbering) -> Affine | None:
    """A tensor with one axis: constants. `constant` ops are alike, but belong to the program."""
    tensor = at.tensors[op.parameters["value"]]
    axes = [axis for axis in range(tensor.ndim) if tensor.shape[axis] > 1]
    if len(axes) != 1:
        return None
    values = np.asarray(tensor).astype(np.float64).reshape(-1)
    nothing = np.zeros(len(values))
    blur = at.precision.rounding * np.abs(values)
    return Affine(axes[0] - tensor.ndim, nothing.astype(np.int64), nothing, values, blur)


@step("max_pool")
def _max_pool(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    return None if x is None else at.kinds.largest(x)


@step("average_pool")
def _average_pool(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    counted = op.attributes.get("count_padding", True) and np.any(op.attributes.get("padding", 0))
    return None if x is None else at.kinds.spread(x, not counted)


@step("pool")
def _pool(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    if x is None or op.attributes.get("statistic") == "average":
        return None if x is None else at.kinds.spread(x, True)
    return at.kinds.largest(x)


@step("spatial_mean")
def _spatial_mean(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    if x is None:
        return None
    mean = at.kinds.spread(x, True)
    return Affine(-1, mean.kind, mean.factor, mean.offset, mean.blur)


@step("reduce")
def _reduce(op: Op, at: Numbering) -> Affine | None:
    x = at.values.get(op.inputs[0])
    rank = at.rank(op.inputs[0])
    if x is None or op.attributes["statistic"] != "mean" or rank + x.axis in {a % rank for a in op.attributes["axes"]}:
        return None
    return at.kinds.spread(x, True)


@step("resize")
def _resize(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    return None if x is None else at.kinds.spread(x, True)


@step("filter")
def _filter(op: Op, at: Numbering) -> Affine | None:
    x = at.channels(op.inputs[0])
    return None if x is None else at.kinds.spread(x, False)


@step("pad")
def _pad(op: Op, at: Numbering) -> Affine | None:
    x = at.values.get(op.inputs[0])
    if x is None:
        return None
    place = at.rank(op.inputs[0]) + x.axis
    if op.attributes["before"][place] or op.attributes["after"][place] or op.attributes.get("value", 0.0) != 0.0:
        return None
    return at.kinds.spread(x, "mode" in op.attributes)


@step("permute", "reshape", "flatten", "slice", "concat", "expand")
def _moved(op: Op, at: Numbering) -> Affine | None:
    parts = [at.values.get(name) or _followed(op, name, at) for name in op.inputs]
    lengths = [_lengths(at, name) for name in op.inputs]
    moved = movement(op, [None if x is None else x.axis for x in parts], lengths, _lengths(at, op.output))
    if moved is None:
        return None
    whole = joined([part for part in parts if part is not None])
    if len(moved.index) and moved.index.max() >= len(whole):
        return None
    x = whole.taken(moved.index)
    kind = x.kind if moved.same else at.kinds.numbered(x.constant, [x.kind, moved.label], [])
    return Affine(moved.axis, kind, x.factor, x.offset, x.blur)


def _followed(op: Op, name: str, at: Numbering) -> Affine | None:
    """Operands of a concatenation that nothing is known of still have slots."""
    return at.on_axis(name, op.attributes["axis"] % at.rank(name) - at.rank(name)) if op.kind == "concat" else None


def _lengths(at: Numbering, name: str) -> tuple[int | None, ...]:
    axes = at.layout.values[at.network][name]
    return tuple(len(axis) if isinstance(axis, np.ndarray) else axis for axis in axes)
