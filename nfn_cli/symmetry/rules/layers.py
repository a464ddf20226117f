"""symmetry/rules/layers.py: rules of ops with weights and of norms and pools: linear, convolution, batch norm, layer norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TypeGuard

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import Axis
from nfn_cli.symmetry.rules.arithmetic import product, product_of_axes
from nfn_cli.symmetry.rules.registry import Plain, Value, common, opaque, pin_amounts, rule, size
from nfn_cli.symmetry.system import System


@rule("linear")
def _linear(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    weight = op.parameters["weight"]
    if "bias" in op.parameters:
        pin_amounts(system, *value[:-1])  # a bias is added once for each of their slots
    out = system.fresh(system.shape(weight)[op.attributes["out_axis"]])
    system.incident(weight, op.attributes["out_axis"], out, +1, signed=True)
    system.incident(weight, op.attributes["in_axis"], value[-1] if value else None, -1, signed=True)
    if "bias" in op.parameters:
        system.incident_vector(op.parameters["bias"], out, +1, signed=True)
    return (*value[:-1], out) if value else (None, out)


@rule("conv")
def _conv(op: Op, inputs: list[Value], system: System) -> Value:
    value, channel = inputs[0], inputs[0][1]
    for axis in value[2:]:
        if isinstance(axis, Axis):  # positions stay where they are; an amount common to all belongs to the channels
            system.pin(axis, "unit")
            channel = product(channel, common(axis, system), system)
    if "bias" in op.parameters:
        pin_amounts(system, value[0])
    if len(inputs) > 1:
        out = _computed_weight(op, channel, inputs[1], system)
    elif op.attributes.get("trained", True):
        out = _own_weight(op, channel, system)
    else:
        out = _constant_weight(op, channel, system)
    if isinstance(out, Axis):
        if "bias" in op.parameters:
            system.incident_vector(op.parameters["bias"], out, +1, signed=True)
    elif "bias" in op.parameters:
        system.incident_vector(op.parameters["bias"], None)
    return (value[0], out, *op.attributes.get("size", (None,) * len(value[2:])))


@rule("filter")
def _filter(op: Op, inputs: list[Value], system: System) -> Value:
    """The same kernel for every channel: whatever is done to channels passes."""
    (value,) = inputs
    for axis in value[2:]:
        system.pin(axis)
    return (*value[:2], *op.attributes["size"])


def _own_weight(op: Op, channel: Plain, system: System) -> Axis:
    weight, groups = op.parameters["weight"], int(op.attributes.get("groups", 1))
    out_dim, in_dim = op.attributes["out_axis"], op.attributes["in_axis"]
    shape = system.shape(weight)
    if groups == 1:
        out = system.fresh(shape[out_dim])
        system.incident(weight, in_dim, channel, -1, signed=True)
        system.incident(weight, out_dim, out, +1, signed=True)
        return out
    if op.attributes.get("transposed", False):
        return _transposed_groups(weight, (out_dim, in_dim), groups, channel, system)
    multiplier, laid_out = shape[out_dim] // groups, (out_dim, in_dim) == (0, 1)
    if _is_depthwise(channel, shape[in_dim], groups) and multiplier > 1:
        system.splittable.add(system.use)
    whole = multiplier == 1 or not laid_out or system.use in system.unsplit
    if whole and _is_depthwise(channel, shape[in_dim], groups):
        # depthwise: output slot i reads input slot i // multiplier, so it is a slot of the same unit
        tied = _repeated(channel, multiplier)
        out = system.freed(tied)
        system.incident(weight, out_dim, tied, -1, signed=True)
    elif laid_out and isinstance(channel, Axis):
        out = system.fresh(shape[out_dim])
        system.incident(weight, in_dim, channel, -1, signed=True, groups=groups)
        system.keep_blocks(groups, channel, out)
    else:
        out = _in_given_order(weight, (out_dim, in_dim), groups, channel, system.fresh(shape[out_dim]), system)
    system.incident(weight, out_dim, out, +1, signed=True)
    return out


def _transposed_groups(weight: str, dims: tuple[int, int], groups: int, channel: Plain, system: System) -> Axis:
    """Rows of the weight belong to input channels: here it is the columns of the output that each group has of its own."""
    (out_dim, in_dim), shape = dims, system.shape(weight)
    per_group = shape[out_dim]
    if dims != (1, 0):
        out = _in_given_order(weight, dims, groups, channel, system.fresh(groups * per_group), system)
        system.pin(out)
        return out
    if isinstance(channel, Axis) and shape[in_dim] == groups and per_group == 1:
        out = system.freed(channel)
    else:
        out = system.fresh(groups * per_group)
        if isinstance(channel, Axis):
            system.keep_blocks(groups, channel, out)
        else:
            out = _in_given_order(weight, dims, groups, channel, out, system)
    system.incident(weight, in_dim, channel, -1, signed=True)
    system.incident(weight, out_dim, out, +1, signed=True, groups=groups)
    return out


def _in_given_order(weight: str, dims: tuple[int, int], groups: int, channel: Plain, out: Axis, system: System) -> Axis:
    """Input channels that no unit stands for, or a layout with groups that no action describes: groups stay in place."""
    system.pin(channel)
    if dims not in ((0, 1), (1, 0)):
        system.opaque.append(f"{weight}: grouped convolution, the order of its channels is kept")
    label = (np.arange(len(out)) // (len(out) // groups)).astype(np.uint64)
    return system.registered(replace(out, label=label))


def _is_depthwise(channel: Plain, into: int | None, groups: int) -> TypeGuard[Axis]:
    return isinstance(channel, Axis) and len(channel) == groups and into == 1


def _repeated(channel: Axis, multiplier: int) -> Axis:
    groups = len(channel)
    if multiplier == 1:
        return channel
    return channel.taken(np.repeat(np.arange(groups), multiplier), np.tile(np.arange(multiplier), groups))


def _constant_weight(op: Op, channel: Plain, system: System) -> Plain:
    """A buffer as kernel: it may be reordered with the channels, but its numbers stay."""
    weight, groups = op.parameters["weight"], int(op.attributes.get("groups", 1))
    shape = system.shape(weight)
    out_dim, in_dim = op.attributes["out_axis"], op.attributes["in_axis"]
    if not op.attributes.get("transposed") and _is_depthwise(channel, shape[in_dim], groups):
        out = system.registered(_repeated(channel, shape[out_dim] // groups))
        system.incident(weight, out_dim, out)
        return out
    system.pin(channel)
    for dim in range(len(shape)):
        system.incident(weight, dim, None)
    return system.fixed(shape[out_dim] * (groups if op.attributes.get("transposed") else 1))


def _computed_weight(op: Op, channel: Plain, weight: Value, system: System) -> Plain:
    """A weight that is itself a value: units pass, and what amounts its input axis brings must undo the channels' own."""
    groups, transposed = int(op.attributes.get("groups", 1)), bool(op.attributes.get("transposed", False))
    out_dim, in_dim = op.attributes["out_axis"], op.attributes["in_axis"]
    out: Plain = weight[out_dim]
    into: Plain = weight[in_dim]
    for dim, axis in enumerate(weight):
        if dim not in (out_dim, in_dim):
            system.pin(axis)
    if transposed and groups > 1:
        for axis in (channel, out, into):
            system.pin(axis)
        return system.fixed((size(out) or 0) * groups)
    if groups > 1 and _is_depthwise(channel, size(into), groups) and isinstance(out, Axis) and len(out) == groups:
        pin_amounts(system, channel, into)
        system.tie("unit", channel.unit, out.unit)
        return out
    left = _undone(channel, into, groups, system)
    if isinstance(left, Axis) and isinstance(out, Axis) and isinstance(into, Axis):
        for kind in ("scale", "sign"):
            if getattr(out, kind).all() and getattr(into, kind).all():
                system.pin(left, kind)  # the weight itself can move it from one of its axes to the other: nothing new
    out = product(out, left, system)
    if isinstance(out, Axis) and groups > 1:  # rows of one group may change places
        for group, slots in enumerate(np.arange(len(out)).reshape(groups, -1)):
            system.distinguish(out.taken(slots, 0), group + 1)
    return out


def _undone(channel: Plain, into: Plain, groups: int, system: System) -> Plain:
    """Slot j·k + i of the channels is slot i of the weight's input axis, for each of the groups, with inverse amounts.

    Without groups the amounts need only be inverse up to one that all have in common, which is what is returned.
    """
    if not isinstance(channel, Axis) or not isinstance(into, Axis) or len(channel) != groups * len(into):
        system.pin(channel)
        system.pin(into)
        return 1
    if groups == 1:
        return common(product_of_axes(channel, into, system), system)
    for group, slots in enumerate(np.arange(len(channel)).reshape(groups, -1)):
        part = channel.taken(slots, 0)
        system.tie("unit", part.unit, into.unit)
        system.relate("scale", (part.scale, part.power), (into.scale, into.power))
        system.relate("sign", (part.sign, np.ones_like(part.sign)), (into.sign, np.ones_like(into.sign)))
        system.distinguish(part, group + 1)
    system.pin(channel, "shift")
    system.pin(into, "shift")
    return 1


def _gain_and_bias(roles: Mapping[str, str], channel: Axis, system: System) -> Axis:
    """What a norm ends with: a gain takes up the sign that came in and frees what goes out; a bias alone keeps the sign."""
    if "weight" in roles:
        out = system.freed(channel)
        system.incident_vector(roles["weight"], out, +1, signed=True)
        system.incident_vector(roles["weight"], channel, 0, signed=True)
        if "bias" in roles:
            system.incident_vector(roles["bias"], out, +1, signed=True)
    else:
        out = channel.without_scale()
        if "bias" in roles:
            system.pin(channel, "sign", "shift")
            system.incident_vector(roles["bias"], out)
    return out


@rule("batch_norm")
def _batch_norm(op: Op, inputs: list[Value], system: System) -> Value:
    """In evaluation the statistics absorb what comes in (mean → c·mean, var → c²(var + ε) − ε); γ and β free the rest."""
    (value,) = inputs
    channel = value[1]
    if not isinstance(channel, Axis):
        for tensor in op.parameters.values():
            system.incident_vector(tensor, None)
        for axis in value:
            system.pin(axis)
        return value
    pin_amounts(system, value[0], *value[2:])
    roles, eps = op.parameters, float(op.attributes.get("eps", 1e-5))
    if not op.attributes.get("eps_known", True):
        system.pin(channel, "scale")  # what the variance takes up depends on ε
    system.incident_vector(roles["running_mean"], channel, +1, signed=True)
    system.incident_vector(roles["running_var"], channel, 2, offset=eps)
    out = _gain_and_bias(roles, channel, system)
    return (value[0], out, *value[2:])


@rule("layer_norm")
def _layer_norm(op: Op, inputs: list[Value], system: System) -> Value:
    """Permutations pass; one common sign passes; magnitudes pass only up to ε and are therefore not claimed."""
    (value,) = inputs
    axes = {axis % len(value) for axis in op.attributes.get("axes", (-1,))}
    channel = value[max(axes)]
    roles = op.parameters
    plain = len(axes) == 1 and isinstance(channel, Axis)
    if not plain or any(prod(system.shape(t)) != len(channel) for t in roles.values()):
        return opaque(op, inputs, system)
    assert isinstance(channel, Axis)
    pin_amounts(system, *(axis for axis in value if axis is not channel))
    system.pin(channel, "scale", "shift")
    system.tie("sign", channel.sign[:-1], channel.sign[1:])
    out = _gain_and_bias(roles, channel, system)
    position = max(axes)
    return (*value[:position], out, *value[position + 1 :])


@rule("max_pool", "average_pool", "pool", "spatial_mean")
def _pool(op: Op, inputs: list[Value], system: System) -> Value:
    """Averages carry signs; the largest of −x is not minus the largest of x; an unknown pooling may be a maximum."""
    (value,) = inputs
    averages = op.kind in ("average_pool", "spatial_mean") or op.attributes.get("statistic") == "average"
    channel = value[1]
    for axis in value[2:]:
        system.pin(axis)
    if not averages:
        for axis in (value[0], channel):
            system.pin(axis, "sign", "shift")
    kept = value[:2] if averages else tuple(a.without_sign() if isinstance(a, Axis) else a for a in value[:2])
    if op.kind == "spatial_mean":
        return kept
    size = op.attributes.get("size")
    return (*kept, *(size if size is not None else (None for _ in value[2:])))


@rule("normalize")
def _normalize(op: Op, inputs: list[Value], system: System) -> Value:
    """Odd, so a sign common to all that is normalized together passes; magnitudes pass only up to ε: not claimed."""
    (value,) = inputs
    groups = op.attributes.get("groups")
    axes = {axis % len(value) for axis in op.attributes["axes"]}
    inside = [axis for position, axis in enumerate(value) if position in axes and isinstance(axis, Axis)]
    out: list[Plain] = list(value)
    for position, axis in enumerate(value):
        if isinstance(axis, Axis):
            system.pin(axis, "scale")
            out[position] = axis.without_scale()
    if len(inside) > 1:
        for axis in inside:
            pin_amounts(system, axis)
    for axis in inside:
        system.pin(axis, "shift")
        runs = axis.sign.reshape(groups or 1, -1)
        system.tie("sign", runs[:, :-1].reshape(-1), runs[:, 1:].reshape(-1))
        if groups and groups > 1:
            system.keep_blocks(groups, axis)
    return tuple(out)


@rule("rms_normalize")
def _rms_normalize(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    for axis in value:
        system.pin(axis, "scale")
    return tuple(axis.without_scale() if isinstance(axis, Axis) else axis for axis in value)


@rule("resize")
def _resize(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    for axis in value[2:]:
        system.pin(axis)
    return (*value[:2], *(int(length) for length in op.attributes["size"]))
