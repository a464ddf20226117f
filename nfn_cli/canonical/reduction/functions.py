"""canonical/reduction/functions.py: when pointwise functions, sums and products of slots are the same up to affine maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from nfn_cli.canonical.reduction.affine import Affine
from nfn_cli.canonical.reduction.duplicates import Close
from nfn_cli.canonical.reduction.numbering import Numbering, step
from nfn_cli.graph.activations import ACTIVATIONS, Activation
from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray

_REFLECTED = frozenset({"sigmoid", "hardsigmoid"})  # σ(−z) = 1 − σ(z)
_WITH_FLAT_PARTS = frozenset({"relu", "squared_relu", "relu6", "hardtanh", "hardsigmoid"})
_THE_ARGUMENT_ITSELF = {  # where the function does nothing
    "relu": (0.0, np.inf),
    "leaky_relu": (0.0, np.inf),
    "prelu": (0.0, np.inf),
    "abs": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "hardtanh": (-1.0, 1.0),
}


@step("pointwise")
def _pointwise(op: Op, at: Numbering) -> Affine | None:
    x = at.values.get(op.inputs[0])
    if "weight" in op.parameters and at.rank(op.inputs[0]) > 1:
        x = at.channels(op.inputs[0])
    activation = ACTIVATIONS.get(op.attributes["function"])
    if x is None or activation is None:
        return None
    if activation.name == "identity":
        return x
    stated = op.attributes.get("omega", op.attributes.get("slope", activation.parameter))
    parameter = at.vector(op, "weight", len(x), float(stated))
    with np.errstate(all="ignore"):
        out = _applied(activation, x, parameter, at)
        value = np.asarray(activation.formula(x.offset, parameter))
        around = [np.asarray(activation.formula(x.offset + d * x.blur, parameter)) for d in (-1, 1)]
    blur = at.precision.rounding * np.abs(value) + np.max(np.abs(np.stack(around) - value), axis=0)
    out = Affine(
        x.axis,
        out.kind,
        np.where(x.constant, 0.0, out.factor),
        np.where(x.constant, value, out.offset),
        np.where(x.constant, blur, 0.0),
    )
    return _settled_by_bounds(op, x, out, at)


def _applied(activation: Activation, x: Affine, parameter: FloatArray, at: Numbering) -> Affine:
    """σ(f·r + g) as a multiple of σ of something that slots of one kind share."""
    n = len(x)
    f, g = np.where(x.constant, 1.0, x.factor), x.offset
    size, sign = np.abs(f), np.where(f < 0, -1.0, 1.0)
    exact, close = [x.kind], [at.kinds.near(parameter)]
    factor, offset = np.ones(n), np.zeros(n)
    relative = at.kinds.near(g / f, x.blur / size)
    if activation.degree is not None:
        if activation.parity is None:  # the argument's sign matters, so it stays with the function
            exact.append(sign.astype(np.int64))
        close.append(relative)
        factor = size**activation.degree * (sign if activation.parity == "odd" else 1.0)
    elif activation.periodic:
        phase, turns = _phase(sign * g, parameter, x.blur, at)
        close += [at.kinds.near(size), phase]
        factor = np.where(turns % 2 == 1, -1.0, 1.0) * (sign if activation.parity == "odd" else 1.0)
    elif activation.parity is not None or activation.name in _REFLECTED:
        close += [at.kinds.near(size), at.kinds.near(sign * g, x.blur)]
        factor = sign if activation.parity != "even" else factor
        offset = (sign < 0).astype(float) if activation.name in _REFLECTED else offset
    else:
        close += [at.kinds.near(f), at.kinds.near(g, x.blur)]
    return Affine(x.axis, at.kinds.numbered(x.constant, exact, close), factor, offset, np.zeros(n))


def _phase(g: FloatArray, omega: FloatArray, blur: FloatArray, at: Numbering) -> tuple[Close, IntArray]:
    """g in [−π/2ω, π/2ω) up to a number of half turns. Values at the border are taken to its lower end."""
    half = np.pi / omega
    turns = np.floor(g / half + 0.5)
    rest = g - turns * half
    unsure = at.precision.factors * (np.abs(g) + np.abs(half)) + blur
    top = rest > half / 2 - 2 * unsure
    return Close(np.where(top, rest - half, rest), unsure), (turns + top).astype(np.int64)


def _settled_by_bounds(op: Op, x: Affine, out: Affine, at: Numbering) -> Affine:
    """Units that the input's range keeps between two kinks are constant or linear."""
    found = at.bounds.get(op.inputs[0])
    name = op.attributes["function"]
    if found is None or found.axis != x.axis or len(found.low) != len(x):
        return out
    if name in _WITH_FLAT_PARTS:
        ends = [np.asarray(ACTIVATIONS[name].formula(end, 0.0)) for end in (found.low, found.high)]
        flat = (ends[0] == ends[1]) & ~x.constant
        at.off[op.output] = flat
        out = _chosen(flat, Affine(x.axis, np.zeros_like(x.kind), 0 * ends[0], ends[0], 0 * ends[0]), out)
    if at.linear and name in _THE_ARGUMENT_ITSELF:
        low, high = _THE_ARGUMENT_ITSELF[name]
        out = _chosen((found.low >= low) & (found.high <= high) & ~x.constant & ~out.constant, x, out)
    return out


def _chosen(where: BoolArray, this: Affine, other: Affine) -> Affine:
    parts = ("kind", "factor", "offset", "blur")
    return Affine(other.axis, *(np.where(where, getattr(this, part), getattr(other, part)) for part in parts))


@step("clip")
def _clip(op: Op, at: Numbering) -> Affine | None:
    x = at.values.get(op.inputs[0])
    if x is None:
        return None
    low, high = op.attributes.get("low"), op.attributes.get("high")
    if low is None and high is None:
        return x
    close = [at.kinds.near(x.factor), at.kinds.near(x.offset, x.blur)]
    kind = at.kinds.numbered(x.constant, [x.kind], close)
    offset = np.where(x.constant, np.clip(x.offset, low, high), 0.0)
    return Affine(x.axis, kind, np.where(x.constant, 0.0, 1.0), offset, np.where(x.constant, x.blur, 0.0))


@step("add", "mul")
def _combined(op: Op, at: Numbering) -> Affine | None:
    known = [at.values.get(name) for name in op.inputs]
    axis = next((x.axis for x in known if x is not None), None)
    if axis is None:
        return None
    total: Affine | None = None
    for name in op.inputs:
        x = at.on_axis(name, axis) if -axis <= at.rank(name) else None
        if x is None:
            return None
        total = x if total is None else _pair(op.kind, total, x, at)
        if total is None:
            return None
    return total


def _pair(kind: str, left: Affine, right: Affine, at: Numbering) -> Affine | None:
    if len(left) != len(right):
        short, long = (left, right) if len(left) < len(right) else (right, left)
        if len(short) != 1 or not short.constant.all():
            return None
        left, right = long, short.taken(np.zeros(len(long), np.int64))
    return (_sum if kind == "add" else _product)(left, right, at)


def _sum(left: Affine, right: Affine, at: Numbering) -> Affine:
    factor = left.factor + right.factor
    both = ~left.constant & ~right.constant
    same = both & (left.kind == right.kind)
    mixed = both & ~same
    cancelled = same & (np.abs(factor) <= at.precision.factors * (np.abs(left.factor) + np.abs(right.factor)))
    kind = np.where(left.constant, right.kind, left.kind)
    ratio = np.where(mixed, right.factor / np.where(left.constant, 1.0, left.factor), 0.0)
    kind[mixed] = at.kinds.numbered(~mixed, [left.kind, right.kind], [at.kinds.near(ratio)])[mixed]
    kind[cancelled] = 0
    factor = np.where(mixed, left.factor, np.where(cancelled, 0.0, factor))
    return Affine(left.axis, kind, factor, left.offset + right.offset, left.blur + right.blur)


def _product(left: Affine, right: Affine, at: Numbering) -> Affine:
    both = ~left.constant & ~right.constant
    only = np.where(left.constant, left.offset, right.offset)  # a constant factor, where there is one
    other: dict[str, Any] = {
        part: np.where(left.constant, getattr(right, part), getattr(left, part))
        for part in ("kind", "factor", "offset", "blur")
    }
    close = []
    for x in (left, right):
        f = np.where(x.constant, 1.0, x.factor)
        close.append(at.kinds.near(x.offset / f, x.blur / np.abs(f)))
    kind = at.kinds.numbered(~both, [left.kind, right.kind], close)
    factor = np.where(both, left.factor * right.factor, other["factor"] * only)
    kind = np.where(both, kind, np.where(factor == 0, 0, other["kind"]))
    offset = np.where(both, 0.0, other["offset"] * only)
    doubt = np.where(left.constant, left.blur, right.blur) * np.abs(other["offset"]) + other["blur"] * np.abs(only)
    return Affine(left.axis, kind, factor, offset, np.where(both, 0.0, doubt))
