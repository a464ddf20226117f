"""symmetry/extras/bounded.py: layer norm and softmax fix one linear function of their outputs, which weights then read in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.branches import rows_of_its_own
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, IntArray, Tensors, float64, vector
from nfn_cli.symmetry.extras.linear_axis import flattened_columns, is_plain_map
from nfn_cli.symmetry.extras.registry import extra_rule
from nfn_cli.symmetry.extras.shift_rules import is_padded
from nfn_cli.symmetry.extras.survey import Survey


@extra_rule
def bounded(survey: Survey) -> list[Extra]:
    """Σ (y_i − β_i)/γ_i = 0 behind a layer norm, Σ y_i = 1 behind a softmax: a row u·aᵀ may be added to what reads y."""
    out = []
    for op in survey.graph.ops:
        shape = survey.shapes[op.output]
        if op.kind not in ("layer_norm", "normalize", "softmax") or shape is None or op.attributes.get("groups"):
            continue
        axes = {axis % len(shape) for axis in op.attributes.get("axes", (op.attributes.get("axis", -1),))}
        if len(axes) > 1 or ("weight" in op.parameters and (survey.vector(op.parameters["weight"]) == 0).any()):
            continue
        constant = op.kind == "softmax" or "bias" in op.parameters
        (axis,) = axes
        columns = np.arange(shape[axis] or 0)[:, None]
        if not len(columns):
            continue
        for reader, place in _readers(survey, op.output, axis, columns):
            if constant and (survey.own(reader, "bias") is None or is_padded(reader)):
                continue
            weight = reader.parameters["weight"]
            size = rows_of_its_own(survey, reader) * place.shape[1]
            tensors = (weight, reader.parameters["bias"]) if constant else (weight,)
            why = "a layer norm or softmax fixes one linear function of what is read here"
            member = partial(_member, op, reader, place, constant)
            out.append(Extra("unreached-weights", tensors, size, 0.0, why, member))
    return out


def _readers(survey: Survey, value: str, axis: int, columns: IntArray) -> Iterator[tuple[Op, IntArray]]:
    """Maps that read the axis, and the (n, k) entries of their input axis that hold it."""
    shape = survey.shapes[value]
    for op in survey.readers.get(value, ()):
        after = survey.shapes[op.output] if op is not None else None
        if op is None or shape is None or after is None or shape[axis] is None:
            continue
        if op.kind == "permute":
            yield from _readers(survey, op.output, list(op.attributes["order"]).index(axis), columns)
        elif op.kind in ("flatten", "reshape"):
            flat = flattened_columns(op, shape, after, axis, columns)
            if flat is not None:
                yield from _readers(survey, op.output, 1, flat)
        elif (
            is_plain_map(op, survey)
            and axis == (len(shape) - 1 if op.kind == "linear" else 1)
            and not op.attributes.get("transposed")
        ):
            yield op, columns


def _member(
    norm: Op, reader: Op, columns: IntArray, constant: bool, tensors: Tensors, random: np.random.Generator
) -> Mapping[str, FloatArray]:
    name, dim, made = reader.parameters["weight"], reader.attributes["in_axis"], reader.attributes["out_axis"]
    weight = float64(tensors, name)
    size = len(columns)
    fixed = 1.0 / vector(tensors, norm.parameters["weight"]) if "weight" in norm.parameters else np.ones(size)
    fixed /= np.abs(fixed).max()
    total = 1.0 if norm.kind == "softmax" else 0.0
    if "bias" in norm.parameters:
        total = float(fixed @ vector(tensors, norm.parameters["bias"]))
    view = np.moveaxis(weight.copy(), (dim, made), (0, 1))
    added = random.standard_normal((columns.shape[1], *view.shape[1:]))  # (k, out, kernel)
    view[columns] += fixed.reshape(-1, *[1] * added.ndim) * added
    out = {name: np.ascontiguousarray(np.moveaxis(view, (0, 1), (dim, made)))}
    if constant:
        bias = float64(tensors, reader.parameters["bias"])
        moved = np.moveaxis(added, 1, 0).reshape(bias.size, -1).sum(1)
        out[reader.parameters["bias"]] = bias - total * moved.reshape(bias.shape)
    return out
