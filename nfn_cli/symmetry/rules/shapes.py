"""symmetry/rules/shapes.py: rules of ops that move slots about: reshape, permute, slice, pad, concatenation, flatten."""

from __future__ import annotations

from math import prod

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import Axis, Factor, IntArray, concatenated
from nfn_cli.symmetry.rules.registry import (
    Entry,
    Plain,
    Value,
    alone,
    factor_rule,
    opaque,
    pin_amounts,
    rule,
    settled,
    size,
)
from nfn_cli.symmetry.system import System


@factor_rule("permute")
def _permute(op: Op, inputs: list[tuple[Entry, ...]], system: System) -> tuple[Entry, ...]:
    (value,) = inputs
    return tuple(value[axis] for axis in op.attributes["order"])


@factor_rule("reshape")
def _reshape(op: Op, inputs: list[tuple[Entry, ...]], system: System) -> tuple[Entry, ...]:
    """Runs of axes with equal products on both sides are merged and cut again; axes of length 1 come and go."""
    (value,) = inputs
    target = [int(n) for n in op.attributes["shape"]]
    if any(size(entry) is None for entry in value):
        return opaque(op, [settled(value, system)], system)
    entries: list[Entry] = []
    for entry in value:
        if size(entry) == 1 and not isinstance(entry, Factor):
            system.pin(entry if isinstance(entry, Axis) else None)
        else:
            entries.append(entry)
    out: list[Entry] = []
    wanted = [n for n in target if n != 1]
    position = 0
    while wanted:
        run, product, parts = [], 1, [wanted.pop(0)]
        while product != prod(parts):
            if product < prod(parts):
                run.append(entries[position])
                product *= size(entries[position]) or 1
                position += 1
            else:
                parts.append(wanted.pop(0))
        out.extend(_cut(_merged(run, system), parts, system))
    for left in entries[position:]:  # parts of length 1 of a cut axis
        settled((left,), system)
    found = iter(_companions(out, system))
    return tuple(1 if n == 1 else next(found) for n in target)


def _companions(entries: list[Entry], system: System) -> list[Entry]:
    """Parts of a cut axis stay parts only while all of them are there."""
    together: dict[tuple[int, tuple[int, ...]], int] = {}
    for entry in entries:
        if isinstance(entry, Factor):
            key = (id(entry.whole), entry.shape)
            together[key] = together.get(key, 0) + 1
    return [
        alone(entry, system)
        if isinstance(entry, Factor) and together[(id(entry.whole), entry.shape)] < len(entry.shape)
        else entry
        for entry in entries
    ]


def _merged(run: list[Entry], system: System) -> Entry:
    """One axis for several; of several that hold units the longest keeps them."""
    if len(run) == 1:
        return run[0]
    factors = [entry for entry in run if isinstance(entry, Factor)]
    if factors:
        first = factors[0]
        complete = sorted(f.index for f in factors) == list(range(len(first.shape)))
        if complete and all(f.whole is first.whole and f.shape == first.shape for f in factors):
            for entry in run:
                system.pin(entry if isinstance(entry, Axis) else None)
            index = _positions(run, [first.shape[f.index] for f in factors], factors)
            return system.registered(first.whole.taken(*index))
        run = [alone(entry, system) if isinstance(entry, Factor) else entry for entry in run]
    axes = [entry for entry in run if isinstance(entry, Axis)]
    if not axes:
        return prod(size(entry) or 1 for entry in run)
    kept = max(axes, key=len)
    for axis in axes:
        if axis is not kept:
            system.pin(axis)
    lengths = [size(entry) or 1 for entry in run]
    place = next(i for i, entry in enumerate(run) if entry is kept)
    grid = np.indices(lengths).reshape(len(lengths), -1)
    others = np.delete(np.arange(len(run)), place)
    labels = np.ravel_multi_index(tuple(grid[others]), tuple(np.array(lengths)[others]))
    return system.registered(kept.taken(grid[place], labels))


def _positions(run: list[Entry], lengths: list[int], factors: list[Factor]) -> tuple[IntArray, IntArray]:
    """(slot of the whole, label) for each slot of the merged axis."""
    all_lengths = [size(entry) or 1 for entry in run]
    grid = np.indices(all_lengths).reshape(len(run), -1)
    slot, label = np.zeros(grid.shape[1], np.int64), np.zeros(grid.shape[1], np.int64)
    shape = factors[0].shape
    for coordinate, entry, length in zip(grid, run, all_lengths, strict=True):
        if isinstance(entry, Factor):
            slot += coordinate * prod(shape[entry.index + 1 :])
        else:
            label = label * length + coordinate
    return slot, label


def _cut(entry: Entry, parts: list[int], system: System) -> list[Entry]:
    """Units that repeat along all parts but one stay on that one; else the parts carry them together."""
    if len(parts) == 1:
        return [entry]
    if isinstance(entry, Factor):
        entry = alone(entry, system)
    if not isinstance(entry, Axis):
        return list(parts)
    columns = [getattr(entry, name).reshape(parts) for name in ("unit", "scale", "power", "sign", "shift")]
    label = entry.label.reshape(parts)
    for place in range(len(parts)):
        along = tuple(slice(None) if axis == place else slice(0, 1) for axis in range(len(parts)))
        if not all((column == column[along]).all() for column in columns):
            continue
        rows = np.moveaxis(label, place, 0).reshape(parts[place], -1)
        _, kind = np.unique(rows[:, 0], return_inverse=True)
        first = np.zeros(kind.max(initial=0) + 1, np.int64)
        first[kind[::-1]] = np.arange(len(kind))[::-1]
        if not np.array_equal(rows, rows[first[kind]]):
            continue
        index = np.moveaxis(np.arange(len(entry)).reshape(parts), place, 0).reshape(parts[place], -1)[:, 0]
        kept = system.registered(entry.taken(index, 0))
        return [kept if axis == place else n for axis, n in enumerate(parts)]
    return [Factor(entry, tuple(parts), axis) for axis in range(len(parts))]


@rule("slice")
def _slice(op: Op, inputs: list[Value], system: System) -> Value:
    """A part of an axis; units that lie in different parts can no longer be exchanged."""
    (value,) = inputs
    at = op.attributes
    axis, index = at["axis"], range(at["start"], at["stop"], at.get("step", 1))
    entry = value[axis]
    out: Plain = len(index)
    if isinstance(entry, Axis):
        part = entry.taken(np.array(index, np.int64), 0)
        system.distinguish(part, at["start"] + 1)
        out = system.registered(part)
    return (*value[:axis], out, *value[axis + 1 :])


@rule("expand")
def _expand(op: Op, inputs: list[Value], system: System) -> Value:
    (value,) = inputs
    out: list[Plain] = []
    for entry, length in zip(value, op.attributes["shape"], strict=True):
        if size(entry) != length:
            system.pin(entry)
        out.append(entry if size(entry) == length else int(length))
    return tuple(out)


@rule("pad")
def _pad(op: Op, inputs: list[Value], system: System) -> Value:
    """Zeros keep magnitudes and signs; zeros in place of units are units of which anything may be said."""
    (value,) = inputs
    at = op.attributes
    zeros = "mode" not in at and at.get("value", 0.0) == 0.0
    if at.get("value", 0.0) != 0.0:
        pin_amounts(system, *value)
    out: list[Plain] = []
    for entry, before, after in zip(value, at["before"], at["after"], strict=True):
        if isinstance(entry, Axis) and zeros and before >= 0 and after >= 0 and before + after > 0:
            whole = concatenated([system.fresh(before + after), entry])
            around = np.arange(before + after)
            order = np.concatenate([around[:before], len(around) + np.arange(len(entry)), around[before:]])
            out.append(system.registered(whole.taken(order, 0)))
        elif before or after:
            system.pin(entry)
            length = size(entry)
            out.append(None if length is None else length + before + after)
        else:
            out.append(entry)
    return tuple(out)


@rule("flatten")
def _flatten(op: Op, inputs: list[Value], system: System) -> Value:
    """Product(channel, Fixed(spatial positions))."""
    (value,) = inputs
    channel, spatial = value[1], value[2:]
    if not isinstance(channel, Axis):
        for axis in spatial:
            system.pin(axis)
        return (value[0], None)
    positions = op.attributes.get("positions")
    if all(isinstance(length, int) for length in spatial):
        positions = prod(int(length) for length in spatial if isinstance(length, int))
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


@rule("concat")
def _concat(op: Op, inputs: list[Value], system: System) -> Value:
    if len({len(value) for value in inputs}) > 1:
        return opaque(op, inputs, system)
    at = op.attributes["axis"] % len(inputs[0])
    out: list[Plain] = []
    for position, axes in enumerate(zip(*inputs, strict=True)):
        if position != at:
            out.append(system.joined(list(axes)))
            continue
        lengths = [size(axis) for axis in axes]
        known = [axis for axis in axes if isinstance(axis, Axis)]
        if not known and None not in lengths:
            out.append(sum(length or 0 for length in lengths))
        elif None not in lengths:
            parts = [axis if isinstance(axis, Axis) else system.fixed(axis or 0) for axis in axes]
            out.append(system.registered(concatenated(parts)))
        else:
            for axis in known:
                system.pin(axis)
            out.append(None)
    return tuple(out)
