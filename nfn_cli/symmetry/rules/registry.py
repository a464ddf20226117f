"""symmetry/rules/registry.py: the table of rules, and what to do with an op that is not in it. No op is known here.

What no rule knows is pinned on all sides and listed as opaque: it costs symmetry, never correctness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import Axis, Factor
from nfn_cli.symmetry.system import System

# One entry an axis of the value: its type, a plain length for an axis without units, None for an unknown length.
Entry = Axis | Factor | int | None
Plain = Axis | int | None
Value = tuple[Plain, ...]
Rule = Callable[[Op, list[Value], System], Value]
FactorRule = Callable[[Op, list[tuple[Entry, ...]], System], tuple[Entry, ...]]

RULES: dict[str, Rule] = {}
FACTOR_RULES: dict[str, FactorRule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule that sees whole axes only: of the parts of a cut axis one reaches it with units, see `settled`."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind] = function
        return function

    return register


def factor_rule(*kinds: str) -> Callable[[FactorRule], FactorRule]:
    """Register a rule that can carry parts of a cut axis."""

    def register(function: FactorRule) -> FactorRule:
        for kind in kinds:
            FACTOR_RULES[kind] = function
        return function

    return register


def apply_rule(op: Op, inputs: list[tuple[Entry, ...]], system: System) -> tuple[Entry, ...]:
    op = replace(op, parameters=system.read_apart(op.parameters))
    if op.kind in FACTOR_RULES:
        return FACTOR_RULES[op.kind](op, inputs, system)
    return RULES.get(op.kind, opaque)(op, [settled(value, system) for value in inputs], system)


def settled(value: tuple[Entry, ...], system: System) -> Value:
    """Parts of a cut axis told apart: the longest keeps units of its own, the others are plain lengths."""
    return tuple(alone(entry, system) if isinstance(entry, Factor) else entry for entry in value)


def alone(part: Factor, system: System) -> Plain:
    """A part seen without the others: the longest keeps the units, which then move with all of their slots."""
    kept = int(np.argmax(part.shape))
    slots = np.moveaxis(np.arange(len(part.whole)).reshape(part.shape), kept, 0).reshape(part.shape[kept], -1)
    columns = [part.whole.taken(column, 0) for column in slots.T]
    for number, column in enumerate(columns):
        system.distinguish(column, number + 1)
        if number:
            for kind in ("unit", "sign", "shift"):
                system.tie(kind, getattr(columns[0], kind), getattr(column, kind))
            system.tie_scales(columns[0], 1, column, 1)
    return system.registered(columns[0]) if part.index == kept else len(part)


def common(axis: Axis, system: System) -> Axis:
    """Magnitudes and signs made equal all along an axis, as an axis of length 1 that carries them; its units stay free."""
    if not len(axis):
        return system.fixed(1)
    first, others = axis.taken(np.zeros(len(axis) - 1, np.int64), 0), axis.taken(np.arange(1, len(axis)), 0)
    system.tie("sign", first.sign, others.sign)
    system.tie_scales(first, 1, others, 1)
    system.pin(axis, "shift")
    one, nothing = np.zeros(1, np.int64), np.zeros(1, np.int64)
    return Axis(system.nodes("unit", 1), one.astype(np.uint64), axis.scale[:1], axis.power[:1], axis.sign[:1], nothing)


def size(entry: Entry) -> int | None:
    return len(entry) if isinstance(entry, (Axis, Factor)) else entry


@rule("opaque")
def opaque(op: Op, inputs: list[Value], system: System) -> Value:
    for value in inputs:
        for axis in value:
            system.pin(axis)
    for tensor in op.parameters.values():
        for dim in range(len(system.shape(tensor))):
            system.incident(tensor, dim, None)
    system.opaque.append(str(op.attributes.get("reason") or f"operation {op.kind!r} is not understood"))
    shape = op.attributes.get("shape")
    if shape is None:
        return (None,) * max((len(value) for value in inputs), default=0)
    return tuple(system.fixed(int(length)) if axis and length else None for axis, length in enumerate(shape))


def pin_amounts(system: System, *entries: Plain) -> None:
    """Magnitudes, signs and phases on these axes stay as they are; units may still move."""
    for entry in entries:
        system.pin(entry, "scale", "sign", "shift")


def without_amounts(entry: Plain) -> Plain:
    return entry.without_scale().without_sign() if isinstance(entry, Axis) else entry
