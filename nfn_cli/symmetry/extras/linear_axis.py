"""symmetry/extras/linear_axis.py: axes of units on which nothing but linear maps act: who makes, who reads them, in which frame.

Between the maps stand sums, averages, identities and factors per channel (a batch norm in evaluation, a learned scale): the
axis then is seen in another frame, value = diag(frame) · axis + constant. Knows the graph; moves no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import FloatArray, IntArray
from nfn_cli.symmetry.extras.survey import Survey, is_exact
from nfn_cli.symmetry.extras.translations import batch_norm_factor

BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear layer or convolution; columns[i, k] is the k-th entry of its input axis that holds unit i."""

    op: Op
    columns: IntArray
    frame: FloatArray


@dataclass(eq=False)
class LinearAxis:
    """n units. Makers and norms with the frames of their outputs (and inputs), readers with that of their input.

    Attributes:
        norms: batch norms and layer norms.
        live: (n,) units whose factors are all nonzero.
        values: those that carry the axis: place of the axis, frame.
        lengths: whether a norm takes lengths over the axis, so that only orthogonal maps pass.
        means: whether a norm takes the mean over the axis away, so that the vector of ones must stay.
    """

    size: int
    makers: list[tuple[Op, FloatArray]] = field(default_factory=list)
    norms: list[tuple[Op, FloatArray, FloatArray]] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    live: BoolArray = field(default_factory=lambda: np.zeros(0, bool))
    values: dict[str, tuple[int, FloatArray]] = field(default_factory=dict)
    lengths: bool = False
    means: bool = False


class _Nonlinear(Exception):
    """Something on the axis is not linear."""


_OVER_UNITS = {"layer_norm", "normalize", "rms_normalize"}
_FACTORS = {"batch_norm", "scale", *_OVER_UNITS}
_SPACE_ONLY = {"average_pool", "pool", "spatial_mean", "resize", "pad", "reduce", "slice"}


def linear_axes(survey: Survey) -> Iterator[LinearAxis]:
    """All of them, in the order of their first makers."""
    seen: set[str] = set()
    for op in survey.graph.ops:
        if op.output in seen or not is_plain_map(op, survey):
            continue
        shape = survey.shapes[op.output]
        axis = None if shape is None else (len(shape) - 1 if op.kind == "linear" else 1)
        size = None if shape is None or axis is None else shape[axis]
        if axis is None or not size:
            continue
        found = LinearAxis(size, live=np.ones(size, bool))
        try:
            _explore(survey, found, op.output, axis)
        except _Nonlinear:
            seen |= set(found.values)
            continue
        seen |= set(found.values)
        yield found


def is_plain_map(op: Op, survey: Survey) -> bool:
    """A linear layer or ungrouped convolution whose tensors are its own."""
    if op.kind not in ("linear", "conv") or len(op.inputs) != 1 or not survey.free(op):
        return False
    return int(op.attributes.get("groups", 1)) == 1 and op.attributes.get("trained", True) and "weight" in op.parameters


def _explore(survey: Survey, found: LinearAxis, start: str, axis: int) -> None:
    queue = [(start, axis, np.ones(found.size))]
    while queue:
        value, axis, frame = queue.pop()
        if value in found.values:
            known_axis, known = found.values[value]
            ratio = frame / known
            if known_axis != axis or not np.allclose(ratio, ratio[0], rtol=1e-9):
                raise _Nonlinear
            continue
        shape = survey.shapes[value]
        if shape is None or shape[axis] != found.size:
            raise _Nonlinear
        found.values[value] = (axis, frame)
        maker = survey.maker.get(value)
        if maker is None:
            raise _Nonlinear
        queue.extend(_backward(survey, found, maker, axis, frame))
        for reader in survey.readers.get(value, ()):
            queue.extend(_forward(survey, found, reader, value, axis, frame))


_Steps = list[tuple[str, int, FloatArray]]


def _backward(survey: Survey, found: LinearAxis, op: Op, axis: int, frame: FloatArray) -> _Steps:
    """Values that stand before `op` on this axis."""
    if op.kind in ("linear", "conv"):
        shape = survey.shapes[op.output]
        made = len(shape or ()) - 1 if op.kind == "linear" else 1
        if axis != made or not is_plain_map(op, survey):
            raise _Nonlinear
        found.makers.append((op, frame))
        return []
    if op.kind in _FACTORS:
        factor = _factor(survey, found, op, axis, frame, -1)
        if op.kind in ("batch_norm", "layer_norm"):
            found.norms.append((op, frame / factor, frame))
        return [(op.inputs[0], axis, frame / factor)]
    return [(name, _axis_before(survey, op, axis), frame) for name in op.inputs if _passes(survey, op, axis)]


def _forward(survey: Survey, found: LinearAxis, op: Op | None, value: str, axis: int, frame: FloatArray) -> _Steps:
    """Values that stand behind `op` on this axis; readers are noted."""
    if op is None:
        raise _Nonlinear
    columns = np.arange(found.size)[:, None]
    if op.kind in ("linear", "conv", "concat", "flatten", "reshape"):
        found.readers.extend(_readers(survey, op, value, axis, columns, frame))
        return []
    if op.kind in _FACTORS:
        factor = _factor(survey, found, op, axis, frame, 1)
        return [(op.output, axis, frame * factor)]
    after = list(op.attributes["order"]).index(axis) if op.kind == "permute" else axis
    if op.kind in ("add",):
        after += len(survey.shapes[op.output] or ()) - len(survey.shapes[value] or ())
    if not _passes(survey, op, after):
        raise _Nonlinear
    return [(op.output, after, frame)]


def _factor(survey: Survey, found: LinearAxis, op: Op, axis: int, frame: FloatArray, ahead: int) -> FloatArray:
    """What a norm or a learned scale multiplies by; a factor 0 takes its unit out.

    Args:
        frame: of the op's input (`ahead` 1) or output (`ahead` −1).
    """
    shape = survey.shapes[op.output]
    if not survey.free(op) or not is_exact(op) or shape is None:
        raise _Nonlinear
    at, parameters = op.attributes, op.parameters
    axes = {1} if op.kind == "batch_norm" else {a % len(shape) for a in at.get("axes", (at.get("axis", -1),))}
    if axes != {axis} or at.get("groups"):
        raise _Nonlinear
    if op.kind == "batch_norm":
        factor = batch_norm_factor(op, survey.tensors)
    else:
        factor = survey.vector(parameters["weight"]) if "weight" in parameters else np.ones(found.size)
    if len(factor) != found.size:
        raise _Nonlinear
    alive = (np.abs(factor) > 1e-30) & np.isfinite(factor)
    found.live &= alive
    factor = np.where(alive, factor, 1.0)
    before = frame if ahead == 1 else frame / factor
    if op.kind in _OVER_UNITS:
        found.lengths, found.means = True, found.means or op.kind != "rms_normalize"
        if not np.allclose(before, before[0], rtol=1e-12):  # lengths are taken of the axis itself, not of multiples
            raise _Nonlinear
    return factor


def _passes(survey: Survey, op: Op, axis: int) -> bool:
    """Whether the op is linear and does the same to every unit of this axis (of its output); else raises."""
    at, shape = op.attributes, survey.shapes[op.output]
    if shape is None:
        raise _Nonlinear
    average = at.get("statistic", "average") in ("average", "mean", "sum")
    touched = {a % len(shape) for a in at.get("axes", ())} | ({at["axis"] % len(shape)} if "axis" in at else set())
    if op.kind == "pad":
        touched = {a for a, n in enumerate(zip(at["before"], at["after"], strict=True)) if n != (0, 0)}
    fine = (
        op.kind in ("add", "permute")
        or (op.kind == "pointwise" and at["function"] == "identity")
        or (op.kind == "scalar" and at.get("add", 0.0) == 0.0 and at.get("multiply", 1.0) != 0.0)
        or (op.kind in _SPACE_ONLY - {"pad", "reduce", "slice"} and average and axis == 1)
        or (op.kind in ("pad", "reduce", "slice") and average and axis not in touched and not at.get("value", 0.0))
    )
    if not fine:
        raise _Nonlinear
    return True


def _axis_before(survey: Survey, op: Op, axis: int) -> int:
    if op.kind == "permute":
        return int(op.attributes["order"][axis])
    if op.kind == "add" and any(
        len(survey.shapes[name] or ()) != len(survey.shapes[op.output] or ()) for name in op.inputs
    ):
        raise _Nonlinear
    return axis


def _readers(
    survey: Survey, op: Op | None, value: str, axis: int, columns: IntArray, frame: FloatArray
) -> Iterator[Reader]:
    """The maps that read the axis, behind concatenations and flattenings. columns: (n, k) entries that hold each unit."""
    before = survey.shapes[value]
    if op is None or before is None:
        raise _Nonlinear
    if op.kind in ("linear", "conv"):
        if axis != (len(before) - 1 if op.kind == "linear" else 1) or not is_plain_map(op, survey):
            raise _Nonlinear
        yield Reader(op, columns, frame)
        return
    after = survey.shapes[op.output]
    if after is None:
        raise _Nonlinear
    if op.kind == "concat":
        if op.attributes["axis"] % len(after) != axis or op.inputs.count(value) != 1:
            raise _Nonlinear
        lengths = [(survey.shapes[name] or (None,) * len(after))[axis] for name in op.inputs]
        ahead = lengths[: op.inputs.index(value)]
        if None in ahead:
            raise _Nonlinear
        columns = columns + sum(n or 0 for n in ahead)
    elif op.kind in ("flatten", "reshape"):
        flat = flattened_columns(op, before, after, axis, columns)
        if flat is None:
            raise _Nonlinear
        columns, axis = flat, 1
    else:
        raise _Nonlinear
    for reader in survey.readers.get(op.output, ()):
        yield from _readers(survey, reader, op.output, axis, columns, frame)


def flattened_columns(
    op: Op, before: tuple[int | None, ...], after: tuple[int | None, ...], axis: int, columns: IntArray
) -> IntArray | None:
    """Channels and positions merged into axis 1 of two: (n, k) entries -> (n, k · positions); None where it is another reshape."""
    length, total = before[1] if len(before) > 1 else None, after[-1]
    if axis != 1 or len(after) != 2 or length is None or total is None or total % length:
        return None
    if op.kind == "reshape" and (None in before or before[0] != after[0]):
        return None
    if op.kind == "reshape" and prod(n or 0 for n in before[1:]) != total:
        return None
    positions = np.arange(total // length)
    if op.attributes.get("order") == "channel_inner":
        spread = columns[:, :, None] + length * positions
    else:
        spread = columns[:, :, None] * len(positions) + positions
    return np.asarray(spread.reshape(len(columns), -1))
