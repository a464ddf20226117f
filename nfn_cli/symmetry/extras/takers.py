"""symmetry/extras/takers.py: the layers that read a value's channels and can undo y → f·y + s there. Knows ops and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import FloatArray, IntArray, Tensors, float64
from nfn_cli.symmetry.extras.linear_axis import flattened_columns
from nfn_cli.symmetry.extras.shift_rules import is_padded
from nfn_cli.symmetry.extras.survey import Survey, is_exact
from nfn_cli.symmetry.extras.translations import weight_on_constant


@dataclass(frozen=True, eq=False)
class Taker:
    """A linear layer, convolution or batch norm that reads the channels.

    Attributes:
        columns: (n, k) entries of its input axis that hold each channel.
        size: length of its input axis.
        norms: batch norms that take up a constant where the layer has no bias.
    """

    op: Op
    columns: IntArray
    size: int
    norms: tuple[Op, ...] = ()

    def undo(self, factor: FloatArray, constant: FloatArray, tensors: Tensors) -> Mapping[str, FloatArray]:
        """What its tensors become when channel i comes as factor[i]·y + constant[i]."""
        f, s = np.ones(self.size), np.zeros(self.size)
        f[self.columns], s[self.columns] = factor[:, None], constant[:, None]
        if self.op.kind == "batch_norm":
            return _batch_norm_undone(self.op, f, s, tensors)
        name = self.op.parameters["weight"]
        out = {name: _columns_divided(self.op, float64(tensors, name), f)}
        if s.any():
            passed = weight_on_constant(self.op, s, out)
            places = [(op, "running_mean", 1.0) for op in self.norms] or [(self.op, "bias", -1.0)]
            for op, role, sign in places:
                old = float64(tensors, op.parameters[role])
                out[op.parameters[role]] = old + sign * passed.reshape(old.shape)
        return out


def takers(survey: Survey, value: str, axis: int, constant: bool) -> list[Taker] | None:
    """All that reads the value; None where something cannot undo such a change. constant: whether s may be other than 0."""
    shape = survey.shapes[value]
    if shape is None or shape[axis] is None:
        return None
    return _behind(survey, value, axis, np.arange(int(shape[axis] or 0))[:, None], constant)


def _behind(survey: Survey, value: str, axis: int, columns: IntArray, constant: bool) -> list[Taker] | None:
    out: list[Taker] = []
    for op in survey.readers.get(value, ()):
        found = None if op is None else _of_reader(survey, op, value, axis, columns, constant)
        if found is None:
            return None
        out.extend(found)
    return out


def _of_reader(survey: Survey, op: Op, value: str, axis: int, columns: IntArray, constant: bool) -> list[Taker] | None:
    shape, after = survey.shapes[value], survey.shapes[op.output]
    if shape is None or after is None:
        return None
    if op.kind in ("linear", "conv", "batch_norm"):
        taker = _taker(survey, op, shape, axis, columns, constant)
        return None if taker is None else [taker]
    average = op.attributes.get("statistic", "average") in ("average", "mean")
    if op.kind == "permute":
        axis = list(op.attributes["order"]).index(axis)
    elif op.kind == "concat":
        lengths = [(survey.shapes[name] or (None,) * len(after))[axis] for name in op.inputs]
        if op.attributes["axis"] % len(after) != axis or op.inputs.count(value) != 1 or None in lengths:
            return None
        columns = columns + sum(n or 0 for n in lengths[: op.inputs.index(value)])
    elif op.kind in ("flatten", "reshape"):
        flat = flattened_columns(op, shape, after, axis, columns)
        if flat is None:
            return None
        columns, axis = flat, 1
    elif not (
        (op.kind == "pointwise" and op.attributes["function"] == "identity")
        or (op.kind in ("average_pool", "pool", "spatial_mean", "resize") and average and axis == 1)
        or (op.kind == "reduce" and average and axis not in {a % len(shape) for a in op.attributes["axes"]})
    ) or (op.kind == "average_pool" and constant and is_padded(op)):
        return None
    return _behind(survey, op.output, axis, columns, constant)


def _taker(
    survey: Survey, op: Op, shape: tuple[int | None, ...], axis: int, columns: IntArray, constant: bool
) -> Taker | None:
    at, size = op.attributes, shape[axis]
    read = len(shape) - 1 if op.kind == "linear" else 1
    if axis != read or size is None or not survey.free(op) or len(op.inputs) > 1:
        return None
    if op.kind == "batch_norm":
        return Taker(op, columns, size) if "weight" in op.parameters and is_exact(op) else None
    grouped = int(at.get("groups", 1)) > 1
    if at.get("transposed") or not at.get("trained", True) or (grouped and (at["out_axis"], at["in_axis"]) != (0, 1)):
        return None
    if not constant or "bias" in op.parameters:
        return None if constant and is_padded(op) else Taker(op, columns, size)
    norms = [reader for reader in survey.readers.get(op.output, ()) if reader is not None]
    whole = len(norms) == len(survey.readers.get(op.output, ())) and op.kind == "conv" and not is_padded(op)
    if not norms or not whole or any(n.kind != "batch_norm" or not survey.own(n, "running_mean") for n in norms):
        return None
    return Taker(op, columns, size, tuple(norms))


def _columns_divided(op: Op, weight: FloatArray, factor: FloatArray) -> FloatArray:
    groups, dim = int(op.attributes.get("groups", 1)), op.attributes["in_axis"]
    if groups == 1:
        return weight / factor.reshape([-1 if axis == dim else 1 for axis in range(weight.ndim)])
    cut = weight.reshape(groups, -1, *weight.shape[1:])
    return np.asarray((cut / factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape))


def _batch_norm_undone(op: Op, factor: FloatArray, constant: FloatArray, tensors: Tensors) -> Mapping[str, FloatArray]:
    """mean → f·mean + s, var → f²·(var + ε) − ε, γ → sign(f)·γ."""
    eps = float(op.attributes.get("eps", 1e-5))
    mean, variance, gain = (float64(tensors, op.parameters[r]) for r in ("running_mean", "running_var", "weight"))
    return {
        op.parameters["running_mean"]: factor.reshape(mean.shape) * mean + constant.reshape(mean.shape),
        op.parameters["running_var"]: factor.reshape(variance.shape) ** 2 * (variance + eps) - eps,
        op.parameters["weight"]: np.sign(factor).reshape(gain.shape) * gain,
    }
