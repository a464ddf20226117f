"""symmetry/extras/branches.py: linear maps of one input whose results are added, and maps whose common part nobody reads.

Where W₁x and W₂x are added, W₁ + M and W₂ − M do the same (two convolutions: at positions both read). Before a layer norm or
softmax, and nothing else, the same row may be added to all rows of W: it shifts all units alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Tensors, float64
from nfn_cli.symmetry.extras.insensitive import runs_of_insensitivity
from nfn_cli.symmetry.extras.linear_axis import is_plain_map
from nfn_cli.symmetry.extras.registry import extra_rule
from nfn_cli.symmetry.extras.survey import Survey, is_exact
from nfn_cli.symmetry.extras.translations import batch_norm_factor

Position = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Branch:
    """A map, the factors per channel behind it, and the value in which it is added to others.

    Attributes:
        taps: position relative to the output's -> index into the kernel.
        diagonal: a batch norm that reads the input itself: it only has the diagonal.
    """

    op: Op
    factors: tuple[Op, ...]
    taps: Mapping[Position, Position]
    diagonal: bool = False


@extra_rule
def branches(survey: Survey) -> list[Extra]:
    out: list[Extra] = []
    seen: dict[tuple[str, int], int] = {}
    for (root, axis, value, kind, _), members in _groups(survey, survey.graph.ops).items():
        diagonal = _diagonal(survey, root, value, kind)
        if diagonal is not None and any(_origin(kind, branch) in branch.taps for branch in members):
            out.append(_with_norm(survey, members, diagonal))
        out.extend(_parallel(survey, members))
        runs = runs_of_insensitivity(survey, root, axis, seen)
        if runs:
            out.append(_common_rows(survey, members, runs))
    return out


def rows_of_its_own(survey: Survey, op: Op) -> int:
    """Rows times kernel positions of a map for which a change of its weight is not already counted here."""
    siblings = [reader for reader in survey.readers[op.inputs[0]] if reader is not None]
    for (root, axis, *_), (first, *_) in _groups(survey, siblings).items():
        if first.op is op:
            return (_size(survey, first)[0] - runs_of_insensitivity(survey, root, axis, {})) * len(first.taps)
    return 0  # another branch of the same sum stands for it


def _groups(survey: Survey, ops: Iterable[Op]) -> dict[tuple[Any, ...], list[Branch]]:
    """Maps by the value in which they end, the value they read and how they walk over it."""
    groups: dict[tuple[Any, ...], list[Branch]] = {}
    for op in ops:
        if is_plain_map(op, survey) and not op.attributes.get("transposed"):
            root, axis, factors = _root(survey, op)
            branch = Branch(op, factors, _taps(survey, op))
            groups.setdefault((root, axis, op.inputs[0], op.kind, _stride(op, branch)), []).append(branch)
    return groups


def _root(survey: Survey, op: Op) -> tuple[str, int, tuple[Op, ...]]:
    """The last value on the way to which nobody else looks (behind factors per channel and sums), its channel axis, the factors."""
    value, factors, added = op.output, list[Op](), False
    axis = 1 if op.kind == "conv" else len(survey.shapes[value] or ()) - 1
    while len(readers := survey.readers.get(value, ())) == 1 and (reader := readers[0]) is not None:
        shape, out = survey.shapes[value], survey.shapes[reader.output]
        if reader.kind == "add" and shape is not None and shape == out:
            added = True
        elif reader.kind == "permute" and not added:
            axis = list(reader.attributes["order"]).index(axis)
        elif added or not _is_factor(survey, reader, axis):
            break
        else:
            factors.append(reader)
        value = reader.output
    return value, axis, tuple(factors)


def _is_factor(survey: Survey, op: Op, axis: int) -> bool:
    if op.kind == "batch_norm":
        return axis == 1 and is_exact(op)
    return op.kind == "scale" and op.attributes["axis"] % len(survey.shapes[op.output] or (0,)) == axis


def _taps(survey: Survey, op: Op) -> dict[Position, Position]:
    if op.kind == "linear":
        return {(): ()}
    shape = survey.graph.parameter_shapes[op.parameters["weight"]]
    kernel = [n for dim, n in enumerate(shape) if dim not in (op.attributes["out_axis"], op.attributes["in_axis"])]
    padding, dilation = (_each(op, name, default, len(kernel)) for name, default in (("padding", 0), ("dilation", 1)))
    return {
        tuple(k * d - p for k, d, p in zip(index, dilation, padding, strict=True)): index
        for index in product(*(range(n) for n in kernel))
    }


def _each(op: Op, name: str, default: int, count: int) -> tuple[int, ...]:
    value = op.attributes.get(name, default)
    return (int(value),) * count if isinstance(value, int) else tuple(int(n) for n in value)


def _axes(branch: Branch) -> int:
    return len(next(iter(branch.taps), ()))  # a kernel of size 0 has no taps


def _stride(op: Op, branch: Branch) -> tuple[int, ...]:
    return () if op.kind == "linear" else _each(op, "stride", 1, _axes(branch))


def _origin(kind: str, branch: Branch) -> Position:
    return () if kind == "linear" else (0,) * _axes(branch)


def _factor(branch: Branch, tensors: Tensors) -> FloatArray | float:
    """What stands between the map and the sum; 0 where that is 0."""
    total: FloatArray | float = 1.0
    for op in branch.factors:
        if op.kind == "batch_norm":
            total = total * batch_norm_factor(op, tensors)
        else:
            total = total * float64(tensors, op.parameters["weight"]).reshape(-1)
    return total


def _live(survey: Survey, members: list[Branch], size: int) -> FloatArray:
    """(size,) 1 where no branch multiplies the channel by 0."""
    live = np.ones(size)
    for branch in members:
        live *= np.broadcast_to(np.abs(_factor(branch, survey.tensors)) > 1e-30, (size,))
    return live


def _size(survey: Survey, branch: Branch) -> tuple[int, int]:
    shape = survey.graph.parameter_shapes[branch.op.parameters["weight"]]
    return shape[branch.op.attributes["out_axis"]], shape[branch.op.attributes["in_axis"]]


def _weights(members: list[Branch]) -> tuple[str, ...]:
    return tuple(branch.op.parameters["weight"] for branch in members)


def _added(
    branch: Branch, position: Position, change: FloatArray, tensors: Mapping[str, Any], out: dict[str, FloatArray]
) -> None:
    """`out` gets the branch's weight with (out, in) `change` added, as seen at the sum, at one position."""
    op, name = branch.op, branch.op.parameters["weight"]
    if name not in out:
        out[name] = float64(tensors, name).copy()
    view = np.moveaxis(out[name], (op.attributes["out_axis"], op.attributes["in_axis"]), (0, 1))
    factor = np.broadcast_to(_factor(branch, tensors), (view.shape[0],))
    safe = np.where(factor == 0, 1.0, factor)
    place: Any = (..., *branch.taps[position])
    view[place] += change / safe[:, None]


def _parallel(survey: Survey, members: list[Branch]) -> list[Extra]:
    positions = [p for p in dict.fromkeys(p for b in members for p in b.taps) if sum(p in b.taps for b in members) > 1]
    if not positions:
        return []
    into, size = _size(survey, members[0])[1], _size(survey, members[0])[0]
    live = _live(survey, members, size)
    count = sum(sum(p in branch.taps for branch in members) - 1 for p in positions)
    why = "linear maps of the same input are added: each can do the other's work"
    dimension = int(live.sum()) * into * count
    member = partial(_traded, tuple(members), tuple(positions), live)
    return [Extra("parallel-maps", _weights(members), dimension, 0.0, why, member)]


def _traded(
    members: tuple[Branch, ...],
    positions: tuple[Position, ...],
    live: FloatArray,
    tensors: Tensors,
    random: np.random.Generator,
) -> Mapping[str, FloatArray]:
    out: dict[str, FloatArray] = {}
    for position in positions:
        first, *others = [branch for branch in members if position in branch.taps]
        weight = tensors[first.op.parameters["weight"]]
        into = weight.shape[first.op.attributes["in_axis"]]
        for other in others:
            change = random.standard_normal((len(live), into)) * (0.1 * live[:, None])
            _added(first, position, change, tensors, out)
            _added(other, position, -change, tensors, out)
    return out


def _common_rows(survey: Survey, members: list[Branch], runs: int) -> Extra:
    into, positions = _size(survey, members[0])[1], dict.fromkeys(p for branch in members for p in branch.taps)
    alive = bool(_live(survey, members, _size(survey, members[0])[0]).all())
    dimension = runs * into * len(positions) if alive else 0
    why = "what reads these units takes a common constant away: a row may be added to all rows"
    member = partial(_rows_added, tuple(members), tuple(positions), runs)
    return Extra("common-rows", _weights(members), dimension, 0.0, why, member)


def _rows_added(
    members: tuple[Branch, ...],
    positions: tuple[Position, ...],
    runs: int,
    tensors: Tensors,
    random: np.random.Generator,
) -> Mapping[str, FloatArray]:
    out: dict[str, FloatArray] = {}
    for position in positions:
        branch = next(branch for branch in members if position in branch.taps)
        shape = tensors[branch.op.parameters["weight"]].shape
        rows = random.standard_normal((runs, shape[branch.op.attributes["in_axis"]]))
        _added(branch, position, np.repeat(rows, shape[branch.op.attributes["out_axis"]] // runs, 0), tensors, out)
    return out


def _diagonal(survey: Survey, root: str, value: str, kind: str) -> Op | None:
    """A batch norm of the input itself that is added to the maps of it."""
    if kind != "conv":
        return None
    for op in survey.readers.get(value, ()):
        exact = op is not None and op.kind == "batch_norm" and is_exact(op)
        owned = op is not None and exact and survey.own(op, "weight") and survey.own(op, "bias")
        if owned and op is not None and _root_of_norm(survey, op) == root:
            return op
    return None


def _root_of_norm(survey: Survey, op: Op) -> str:
    value, added = op.output, False
    while len(readers := survey.readers.get(value, ())) == 1 and (reader := readers[0]) is not None:
        if reader.kind != "add" or survey.shapes[value] != survey.shapes[reader.output]:
            break
        value, added = reader.output, True
    return value if added else ""


def _with_norm(survey: Survey, members: list[Branch], norm: Op) -> Extra:
    branch = next(branch for branch in members if _origin("conv", branch) in branch.taps)
    size = _size(survey, branch)[0]
    live = _live(survey, [branch], size)
    why = "a batch norm of the input is added to a map of it, whose diagonal can do the same"
    tensors = (norm.parameters["weight"], norm.parameters["bias"], branch.op.parameters["weight"])
    return Extra("parallel-norm", tensors, int(live.sum()), 0.0, why, partial(_diagonal_traded, branch, norm, live))


def _diagonal_traded(
    branch: Branch, norm: Op, live: FloatArray, tensors: Tensors, random: np.random.Generator
) -> Mapping[str, FloatArray]:
    """γ + δ·σ, β + δ·mean: the norm gives δ·x more, the map's diagonal δ·x less."""
    change = random.standard_normal(len(live)) * live
    out: dict[str, FloatArray] = {}
    _added(branch, _origin("conv", branch), np.diag(-change), tensors, out)
    gain, bias, mean, variance = (
        float64(tensors, norm.parameters[role]) for role in ("weight", "bias", "running_mean", "running_var")
    )
    deviation = np.sqrt(variance.reshape(-1) + float(norm.attributes.get("eps", 1e-5)))
    out[norm.parameters["weight"]] = gain + (change * deviation).reshape(gain.shape)
    out[norm.parameters["bias"]] = bias + (change * mean.reshape(-1)).reshape(bias.shape)
    return out
