"""symmetry/rules.py: one op, one short function: types of the inputs in, type of the output and equations out.

What no rule knows is pinned on all sides and listed as opaque: it costs symmetry, never correctness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import pi, prod

import numpy as np

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import Axis, concatenated
from nfn_cli.symmetry.system import System

# One entry an axis of the value: its type, a plain length for an axis without units, None for an unknown length.
Value = tuple[Axis | int | None, ...]
Rule = Callable[[Op, list[Value], System], Value]

RULES: dict[str, Rule] = {}


def _rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind] = function
        return function

    return register


def apply_rule(op: Op, inputs: list[Value], system: System) -> Value:
    return RULES.get(op.kind, _opaque)(op, inputs, system)


@_rule("opaque")
def _opaque(op: Op, inputs: list[Value], system: System) -> Value:
    for value in inputs:
        for axis in value:
            system.pin(axis)
    for tensor in op.parameters.values():
        for dim in range(len(system.shape(tensor))):
            system.incident(tensor, dim, None)
    system.opaque.append(str(op.attributes.get("reason") or f"operation {op.kind!r} is not understood"))
    shape = op.attributes.get("shape")
    if shape is None:
        return ()
    return tuple(system.fixed(int(size)) if axis and size else None for axis, size in enumerate(shape))


@_rule("linear")
def _linear(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    weight = op.parameters["weight"]
    out = system.fresh(system.shape(weight)[op.attributes["out_axis"]])
    system.incident(weight, op.attributes["out_axis"], out, +1, signed=True)
    system.incident(weight, op.attributes["in_axis"], value[-1] if value else None, -1, signed=True)
    if "bias" in op.parameters:
        system.incident_vector(op.parameters["bias"], out, +1, signed=True)
    return (*value[:-1], out) if value else (None, out)


@_rule("conv")
def _conv(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    weight, groups = op.parameters["weight"], int(op.attributes.get("groups", 1))
    out_dim, in_dim = op.attributes["out_axis"], op.attributes["in_axis"]
    shape = system.shape(weight)
    channel = value[1]
    transposed = bool(op.attributes.get("transposed", False))
    if groups == 1:
        out = system.fresh(shape[out_dim])
        system.incident(weight, in_dim, channel, -1, signed=True)
    elif not transposed and isinstance(channel, Axis) and len(channel) == groups and shape[in_dim] == 1:
        # depthwise: output slot i reads input slot i // multiplier, so it is a slot of the same unit
        multiplier = shape[out_dim] // groups
        index = np.repeat(np.arange(groups), multiplier)
        tied = channel.taken(index, np.tile(np.arange(multiplier), groups))
        out = system.freed(tied)
        system.incident(weight, out_dim, tied, -1, signed=True)
    else:
        system.pin(channel)
        out = system.fresh(shape[out_dim] * (groups if transposed else 1))
        system.opaque.append(f"{weight}: grouped convolution, the order of its channels is kept")
        if transposed:
            system.pin(out)
        else:
            per_group = len(out) // groups
            out = replace(out, label=(np.arange(len(out)) // per_group).astype(np.uint64))
            system.registered(out)
    if not (transposed and groups > 1):
        system.incident(weight, out_dim, out, +1, signed=True)
    if "bias" in op.parameters:
        system.incident_vector(op.parameters["bias"], out, +1, signed=True)
    return (value[0], out, *(None for _ in value[2:]))


@_rule("batch_norm")
def _batch_norm(op: Op, inputs: list[Value], system: System) -> Value:
    """In evaluation the statistics absorb what comes in (mean → c·mean, var → c²(var + ε) − ε); γ and β free the rest."""
    (value,) = inputs
    channel = value[1]
    if not isinstance(channel, Axis):
        return _opaque(op, inputs, system)
    roles, eps = op.parameters, float(op.attributes.get("eps", 1e-5))
    system.incident_vector(roles["running_mean"], channel, +1, signed=True)
    system.incident_vector(roles["running_var"], channel, 2, offset=eps)
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
    return (value[0], out, *value[2:])


@_rule("layer_norm")
def _layer_norm(op: Op, inputs: list[Value], system: System) -> Value:
    """Permutations pass; one common sign passes; magnitudes pass only up to ε and are therefore not claimed."""
    (value,) = inputs
    axes = {axis % len(value) for axis in op.attributes.get("axes", (-1,))}
    channel = value[max(axes)]
    roles = op.parameters
    plain = len(axes) == 1 and isinstance(channel, Axis)
    if not plain or any(prod(system.shape(t)) != len(channel) for t in roles.values()):
        return _opaque(op, inputs, system)
    assert isinstance(channel, Axis)
    system.pin(channel, "scale", "shift")
    system.tie("sign", channel.sign[:-1], channel.sign[1:])
    if "weight" in roles:
        out = system.freed(channel)
        system.incident_vector(roles["weight"], out, +1, signed=True)
        system.incident_vector(roles["weight"], channel, 0, signed=True)
        if "bias" in roles:
            system.incident_vector(roles["bias"], out, +1, signed=True)
    else:
        out = channel.without_scale()
        if "bias" in roles:
            system.pin(channel, "sign")
            system.incident_vector(roles["bias"], out)
    position = max(axes)
    return (*value[:position], out, *value[position + 1 :])


@_rule("pointwise")
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


@_rule("max_pool", "average_pool", "pool", "spatial_mean")
def _pool(op: Op, inputs: list[Value], system: System) -> Value:
    """Averages carry signs; the largest of −x is not minus the largest of x; an unknown pooling may be a maximum."""
    (value,) = inputs
    averages = op.kind in ("average_pool", "spatial_mean") or op.attributes.get("statistic") == "average"
    channel = value[1]
    for axis in value[2:]:
        system.pin(axis)
    if not averages:
        system.pin(channel, "sign", "shift")
        channel = channel.without_sign() if isinstance(channel, Axis) else channel
    if op.kind == "spatial_mean":
        return (value[0], channel)
    size = op.attributes.get("size")
    return (value[0], channel, *(size if size is not None else (None for _ in value[2:])))


@_rule("flatten")
def _flatten(op: Op, inputs: list[Value], system: System) -> Value:
    """Product(channel, Fixed(spatial positions))."""
    (value,) = inputs
    channel, spatial = value[1], value[2:]
    if not isinstance(channel, Axis):
        return (value[0], None)
    positions = op.attributes.get("positions")
    if all(isinstance(size, int) for size in spatial):
        positions = prod(int(size) for size in spatial if isinstance(size, int))
    if positions is None or any(isinstance(axis, Axis) for axis in spatial):
        system.pin(channel)
        for axis in spatial:
            system.pin(axis)
        return (value[0], None)
    units = np.arange(len(channel))
    if op.attributes.get("order", "channel_outer") == "channel_inner":
        index, label = np.tile(units, positions), np.repeat(np.arange(positions), len(units))
    else:
        index, label = np.repeat(units, positions), np.tile(np.arange(positions), len(units))
    return (value[0], system.registered(channel.taken(index, label)))


@_rule("add")
def _add(op: Op, inputs: list[Value], system: System) -> Value:
    if len({len(value) for value in inputs}) > 1:
        return _opaque(op, inputs, system)
    return tuple(system.joined(list(axes)) for axes in zip(*inputs, strict=True))


@_rule("concat")
def _concat(op: Op, inputs: list[Value], system: System) -> Value:
    if len({len(value) for value in inputs}) > 1:
        return _opaque(op, inputs, system)
    at = op.attributes["axis"] % len(inputs[0])
    out: list[Axis | int | None] = []
    for position, axes in enumerate(zip(*inputs, strict=True)):
        known = [axis for axis in axes if isinstance(axis, Axis)]
        if position != at:
            out.append(system.joined(list(axes)))
        elif len(known) == len(axes):
            out.append(system.registered(concatenated(known)))
        else:
            for axis in known:
                system.pin(axis)
            out.append(None)
    return tuple(out)
