"""symmetry/rules/arithmetic.py: rules of sums, products, pointwise functions, reductions and of tensors that stand as values."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import pi, prod

import numpy as np

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import Axis, IntArray
from nfn_cli.symmetry.rules.registry import Plain, Value, common, pin_amounts, rule, size, without_amounts
from nfn_cli.symmetry.system import System


@rule("parameter")
def _parameter(op: Op, inputs: list[Value], system: System) -> Value:
    """A tensor as a value: each of its axes brings units of its own. Buffers may be reordered, but keep their numbers."""
    tensor, trained = op.parameters["value"], op.attributes.get("trained", True)
    out: list[Plain] = []
    for dim, length in enumerate(system.shape(tensor)):
        if length == 1:
            system.incident(tensor, dim, None)
            out.append(1)
            continue
        axis = system.fresh(length)
        if trained:
            system.incident(tensor, dim, axis, +1, signed=True)
        else:
            system.pin(axis, "scale", "sign")
            system.incident(tensor, dim, axis)
        out.append(axis)
    return tuple(out)


@rule("constant")
def _constant(op: Op, inputs: list[Value], system: System) -> Value:
    return tuple(np.shape(op.attributes["value"]))


@rule("pointwise")
def _pointwise(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    if "weight" in op.parameters and prod(system.shape(op.parameters["weight"])) > 1:
        system.incident_vector(op.parameters["weight"], value[1])
    return tuple(_through(op, axis, system) if isinstance(axis, Axis) else axis for axis in value)


def _through(op: Op, axis: Axis, system: System) -> Axis:
    activation = ACTIVATIONS.get(op.attributes["function"])
    degree, parity = (activation.degree, activation.parity) if activation else (None, None)
    out = axis
    if degree is None:
        system.pin(axis, "scale")
        out = out.without_scale()
    else:
        out = replace(out, power=out.power * degree)
    if parity is None:
        system.pin(axis, "sign", "shift")
    if parity != "odd":
        out = out.without_sign()
    bias, omega = op.attributes.get("phase_bias"), op.attributes.get("omega")
    if activation is not None and activation.periodic and bias is not None and omega and not out.shift.any():
        counts = system.nodes("shift", len(axis))
        phased = replace(axis, shift=counts)
        system.incident_vector(bias, phased, 0, phase=pi / float(omega))
        out = replace(out, shift=counts)
    return out


@rule("clip", "softmax")
def _order_only(op: Op, inputs: list[Value], system: System) -> Value:
    """Neither magnitudes nor signs pass; the order of units does."""
    pin_amounts(system, *inputs[0])
    return tuple(without_amounts(axis) for axis in inputs[0])


@rule("scalar")
def _scalar(op: Op, inputs: list[Value], system: System) -> Value:
    """Multiplying by a number keeps everything; adding one keeps only the order."""
    (value,) = inputs
    if op.attributes.get("add", 0.0) == 0.0:
        return value
    return _order_only(op, inputs, system)


@rule("scale")
def _scale(op: Op, inputs: list[Value], system: System) -> Value:
    """One factor for each slot: it takes up what comes in and frees what goes out."""
    (value,) = inputs
    at = op.attributes["axis"] % len(value)
    channel, weight = value[at], op.parameters["weight"]
    if not isinstance(channel, Axis):
        system.incident_vector(weight, None)
        return value
    out = system.freed(channel)
    system.incident_vector(weight, out, +1, signed=True)
    system.incident_vector(weight, channel, -1, signed=True)
    return (*value[:at], out, *value[at + 1 :])


def aligned(inputs: list[Value]) -> list[Value]:
    rank = max(len(value) for value in inputs)
    return [(*([1] * (rank - len(value))), *value) for value in inputs]


@rule("add")
def _add(op: Op, inputs: list[Value], system: System) -> Value:
    """Summands agree slot by slot. One that is spread along an axis allows no magnitude or sign on it."""
    out: list[Plain] = []
    for axes in zip(*aligned(inputs), strict=True):
        long = [axis for axis in axes if size(axis) != 1]
        if not long:
            out.append(system.joined(list(axes)))
            continue
        if len(long) == len(axes):
            out.append(system.joined(long))
        else:
            out.append(_spread_sum(long, [axis for axis in axes if size(axis) == 1], system))
    return tuple(out)


def _spread_sum(long: list[Plain], short: list[Plain], system: System) -> Plain:
    """Summands of length 1 along an axis: all of its slots must have their magnitude and sign."""
    whole = system.joined(long)
    if not isinstance(whole, Axis) or any(not isinstance(axis, Axis) for axis in (*long, *short)):
        pin_amounts(system, *long, *short)
        return without_amounts(whole)
    alike = common(whole, system)
    for axis in short:
        assert isinstance(axis, Axis)
        system.tie("sign", alike.sign, axis.sign)
        system.tie_scales(alike, 1, axis, 1)
        system.pin(axis, "shift")
    return whole


@rule("mul")
def _mul(op: Op, inputs: list[Value], system: System) -> Value:
    return tuple(
        reduce(lambda left, right: product(left, right, system), axes) for axes in zip(*aligned(inputs), strict=True)
    )


def product(left: Plain, right: Plain, system: System) -> Plain:
    """Magnitudes and signs multiply, also where one factor is spread along the axis."""
    if not isinstance(left, Axis):
        left, right = right, left
    if not isinstance(left, Axis):
        return left if right == 1 else right
    if not isinstance(right, Axis):
        if right == 1:
            return left
        if len(left) == 1:
            pin_amounts(system, left)
            return right
        system.pin(left, "unit")
        return left
    if len(left) == 1 < len(right):
        left, right = right, left
    if len(right) == 1 < len(left):
        return multiplied(left, right.taken(np.zeros(len(left), np.int64), 0), system)
    if len(left) != len(right):
        system.pin(left)
        system.pin(right)
        return left
    return product_of_axes(left, right, system)


def product_of_axes(left: Axis, right: Axis, system: System) -> Axis:
    """Slot by slot."""
    system.tie("unit", left.unit, right.unit)
    system.slotwise.append([left.label, right.label])
    return multiplied(left, right, system)


def multiplied(left: Axis, right: Axis, system: System) -> Axis:
    """The units of `left`, with the amounts of both."""
    same, both = left.scale == right.scale, (left.scale != 0) & (right.scale != 0)
    scale = np.where(left.scale != 0, left.scale, right.scale)
    power = np.where(same, left.power + right.power, np.where(left.scale != 0, left.power, right.power))
    mixed = both & ~same
    if mixed.any():
        scale[mixed] = system.summed("scale", *((axis.scale[mixed], axis.power[mixed]) for axis in (left, right)))
        power[mixed] = 1
    scale = np.where(power == 0, 0, scale)
    sign = np.where(left.sign == right.sign, 0, np.where(left.sign != 0, left.sign, right.sign))
    mixed = (left.sign != 0) & (right.sign != 0) & (left.sign != right.sign)
    if mixed.any():
        ones = np.ones(int(mixed.sum()), np.int64)
        sign[mixed] = system.summed("sign", (left.sign[mixed], ones), (right.sign[mixed], ones))
    return system.registered(Axis(left.unit, left.label, scale, power, sign, _shifts(left, right, system)))


def _shifts(left: Axis, right: Axis, system: System) -> IntArray:
    """(−1)^k of one factor passes; where both bring phases, none is claimed."""
    clash = (left.shift != 0) & (right.shift != 0) & (left.shift != right.shift)
    system.pinned["shift"] += [left.shift[clash], right.shift[clash]]
    return np.where(clash | (left.shift == right.shift), 0, np.where(left.shift != 0, left.shift, right.shift))


@rule("reduce")
def _reduce(op: Op, inputs: list[Value], system: System) -> Value:
    """Order does not matter to a sum over units; what multiplies its terms one by one does."""
    (value,) = inputs
    statistic, axes = op.attributes["statistic"], set(op.attributes["axes"])
    out: list[Plain] = []
    for position, axis in enumerate(value):
        if position in axes:
            out.append(_reduced(axis, statistic, system))
        elif not isinstance(axis, Axis) or statistic in ("mean", "sum"):
            out.append(axis)
        else:
            out.append(_measured(axis, statistic, system))
    return tuple(out)


def _measured(axis: Axis, statistic: str, system: System) -> Axis:
    """What a norm, a variance, a largest or a smallest value does to magnitudes and signs of its argument."""
    if statistic == "norm":
        return axis.without_sign()
    if statistic == "variance":
        return replace(axis, power=2 * axis.power).without_sign()
    if statistic not in ("mean", "sum"):
        system.pin(axis, "sign", "shift")
        return axis.without_sign()
    return axis


def _reduced(axis: Plain, statistic: str, system: System) -> Plain:
    """Units that are added up (or compared) may change places; what multiplies all of them alike passes."""
    if not isinstance(axis, Axis):
        return 1
    return _measured(axis if len(axis) == 1 else common(axis, system), statistic, system)
