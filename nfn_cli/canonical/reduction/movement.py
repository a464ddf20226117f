"""canonical/reduction/movement.py: where slots go in ops that only move them: permute, reshape, flatten, slice, concatenation.

Knows ops and lengths; no weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import IntArray

Lengths = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Movement:
    """Output slot i is part `label[i]` of slot `index[i]` of the operands' slots, put one after another.

    Attributes:
        axis: of the output, counted from the end.
        same: whether a slot comes out as the very function it was, not as some part or rearrangement of it.
    """

    axis: int
    index: IntArray
    label: IntArray
    same: bool


def movement(op: Op, axes: Sequence[int | None], inputs: Sequence[Lengths], output: Lengths) -> Movement | None:
    """What becomes of the followed axis (counted from the end) of each input; None where it cannot be followed."""
    if not axes or any(axis is None or -axis > len(value) for axis, value in zip(axes, inputs, strict=True)):
        return None
    lengths = [value[axis] for axis, value in zip(axes, inputs, strict=True) if axis is not None]
    if None in lengths:
        return None
    counts = [length for length in lengths if length is not None]
    if op.kind == "concat":
        axis = op.attributes["axis"] % len(inputs[0]) - len(inputs[0])
        return _kept(axis, sum(counts), True) if all(a == axis for a in axes) else None
    if len(counts) != 1 or axes[0] is None:
        return None
    return _of_one(op, axes[0], counts[0], inputs[0], output)


def _of_one(op: Op, axis: int, n: int, value: Lengths, output: Lengths) -> Movement | None:
    position = len(value) + axis
    if op.kind == "permute":
        order = [entry % len(value) for entry in op.attributes["order"]]
        return _kept(order.index(position) - len(value), n, False)
    if op.kind == "slice":
        if op.attributes["axis"] % len(value) != position:
            return _kept(axis, n, False)
        index = np.arange(n)[op.attributes["start"] : op.attributes["stop"] : op.attributes.get("step", 1)]
        return Movement(axis, index, np.zeros(len(index), np.int64), True)
    if op.kind == "flatten":
        return _flattened(op, position, n, output)
    if op.kind == "expand":
        return _kept(axis, n, True) if -axis <= len(output) and output[axis] == n else None
    if op.kind == "reshape":
        return _reshaped(position, n, value, [int(entry) for entry in op.attributes["shape"]])
    return None


def _kept(axis: int, n: int, same: bool) -> Movement:
    return Movement(axis, np.arange(n), np.zeros(n, np.int64), same)


def _flattened(op: Op, position: int, n: int, output: Lengths) -> Movement | None:
    total = output[-1]
    if position != 1 or total is None or total % n:
        return None
    places = total // n
    if op.attributes.get("order", "channel_outer") == "channel_inner":
        return Movement(-1, np.tile(np.arange(n), places), np.repeat(np.arange(places), n), False)
    return Movement(-1, np.repeat(np.arange(n), places), np.tile(np.arange(places), n), False)


def _reshaped(position: int, n: int, value: Lengths, shape: list[int]) -> Movement | None:
    """The axis alone, or run together with the axes right behind it."""
    if any(length is None for length in value):
        return None
    known = [int(length or 1) for length in value]
    for place, length in enumerate(shape):
        if prod(shape[:place]) != prod(known[:position]) or length % n or length == 1 != n:
            continue
        places = length // n
        if any(prod(known[position + 1 : stop]) == places for stop in range(position + 1, len(known) + 1)):
            index, label = np.repeat(np.arange(n), places), np.tile(np.arange(places), n)
            return Movement(place - len(shape), index, label, False)
    return None
