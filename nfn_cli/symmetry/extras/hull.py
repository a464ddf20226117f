"""symmetry/extras/hull.py: the space that the values of a linear axis fill, where its makers are too narrow for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import FloatArray, float64
from nfn_cli.symmetry.extras.linear_axis import LinearAxis
from nfn_cli.symmetry.extras.shift_rules import is_padded
from nfn_cli.symmetry.extras.survey import Survey
from nfn_cli.symmetry.extras.translations import batch_norm_factor

# Operations that finding a basis may take; wider axes are left out.
_LARGEST_WORK = 10**9


@dataclass(frozen=True, eq=False)
class Hull:
    """What an axis of n units reaches, seen in frame 1.

    Attributes:
        basis: (n, r) orthonormal; None where all n dimensions are reached.
        point: (n,) constant outside of the basis that the readers' biases take up; None where there is none.
    """

    basis: FloatArray | None
    point: FloatArray | None = None

    def dimension(self, size: int) -> int:
        return size if self.basis is None else self.basis.shape[1]


def hull_of(survey: Survey, axis: LinearAxis, known: Mapping[str, Hull | None]) -> Hull | None:
    """None where this cannot be told; `known` holds the hulls of linear axes that come before, by value."""
    columns, offsets, full = list[FloatArray](), list[FloatArray](), True
    for op, frame in axis.makers:
        hull, lost = known.get(op.inputs[0], Hull(None)), _lost(survey, op, known)
        if hull is None or lost is None:
            return None
        width = int(np.size(survey.tensors[op.parameters["weight"]])) // axis.size
        if hull.basis is None and width - lost >= axis.size:
            return Hull(None)
        if axis.size * width**2 > _LARGEST_WORK:
            return None
        full &= not lost
        weight = _as_map(survey, op) / frame[:, None, None]
        columns.append(weight if hull.basis is None else np.einsum("okt,kr->ort", weight, hull.basis))
        if hull.point is not None:
            offsets.append(weight.sum(2) @ hull.point)
        if "bias" in op.parameters:
            offsets.append(survey.vector(op.parameters["bias"]) / frame)
        full &= hull.basis is None
    directions = np.concatenate([part.reshape(axis.size, -1) for part in columns], 1)
    if directions.shape[1] >= axis.size and full:
        return Hull(None)
    if axis.lengths or not axis.live.all() or any(_lost(survey, op, known) for op, _ in axis.makers):
        return None
    offsets += [_norm_constant(survey, op) / frame for op, _, frame in axis.norms]
    point = np.sum(offsets, 0) if offsets else None
    if point is None:
        return Hull(_basis(directions))
    if _has_one_point(survey, axis) and all("bias" in r.op.parameters and not is_padded(r.op) for r in axis.readers):
        basis = _basis(directions)
        return Hull(None) if basis.shape[1] == axis.size else Hull(basis, point)
    if all(is_padded(reader.op) for reader in axis.readers):
        basis = _basis(np.concatenate([directions, *(offset[:, None] for offset in offsets)], 1))
        return Hull(None) if basis.shape[1] == axis.size else Hull(basis)
    return None


def _has_one_point(survey: Survey, axis: LinearAxis) -> bool:
    """One maker, whose constant reaches all readers as it is, without borders of zeros."""
    kinds = {op.kind for value in axis.values if (op := survey.maker[value]).kind != "pointwise"}
    return len(axis.makers) == 1 and kinds <= {"linear", "conv", "permute", "spatial_mean"}


def _as_map(survey: Survey, op: Op) -> FloatArray:
    """(out, in, taps)."""
    weight = float64(survey.tensors, op.parameters["weight"])
    weight = np.moveaxis(weight, (op.attributes["out_axis"], op.attributes["in_axis"]), (0, 1))
    return np.asarray(weight.reshape(*weight.shape[:2], -1))


def _norm_constant(survey: Survey, op: Op) -> FloatArray:
    constant = -batch_norm_factor(op, survey.tensors) * survey.vector(op.parameters["running_mean"])
    return constant + survey.vector(op.parameters["bias"]) if "bias" in op.parameters else constant


def _lost(survey: Survey, op: Op, known: Mapping[str, Hull | None]) -> int | None:
    """How many columns of the map read what a layer norm or softmax holds fixed; None: a linear axis is involved, cannot tell."""
    value = op.inputs[0]
    if value in known:
        return 0
    while (maker := survey.maker.get(value)) is not None and maker.kind in ("permute", "reshape", "flatten", "concat"):
        if maker.kind == "concat" or any(name in known for name in maker.inputs):
            return None if any(name in known for name in maker.inputs) else 0
        value = maker.inputs[0]
    if maker is None or maker.kind not in ("softmax", "layer_norm", "normalize"):
        return 0
    made, read = op.attributes["out_axis"], op.attributes["in_axis"]
    shape = survey.graph.parameter_shapes[op.parameters["weight"]]
    return prod(n for dim, n in enumerate(shape) if dim not in (made, read))


def _basis(columns: FloatArray) -> FloatArray:
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, values > 1e-9 * values.max(initial=0.0)])
