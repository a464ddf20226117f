"""symmetry/extras/bounded.py: layer norm and softmax fix one linear function of their outputs, which weights then read in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.branches import rows_of_its_own
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Tensors, float64, vector
from nfn_cli.symmetry.extras.linear_axis import is_plain_map
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
        for reader in _readers(survey, op.output, next(iter(axes))):
            if constant and (survey.own(reader, "bias") is None or is_padded(reader)):
                continue
            weight = reader.parameters["weight"]
            size = rows_of_its_own(survey, reader)
            tensors = (weight, reader.parameters["bias"]) if constant else (weight,)
            why = "a layer norm or softmax fixes one linear function of what is read here"
            out.append(Extra("unreached-weights", tensors, size, 0.0, why, partial(_member, op, reader, constant)))
    return out


def _readers(survey: Survey, value: str, axis: int) -> Iterator[Op]:
    shape = survey.shapes[value]
    for op in survey.readers.get(value, ()):
        if op is None or shape is None:
            continue
        if op.kind == "permute":
            yield from _readers(survey, op.output, list(op.attributes["order"]).index(axis))
        elif (
            is_plain_map(op, survey)
            and axis == (len(shape) - 1 if op.kind == "linear" else 1)
            and not op.attributes.get("transposed")
        ):
            yield op


def _member(
    norm: Op, reader: Op, constant: bool, tensors: Tensors, random: np.random.Generator
) -> Mapping[str, FloatArray]:
    name, dim, made = reader.parameters["weight"], reader.attributes["in_axis"], reader.attributes["out_axis"]
    weight = float64(tensors, name)
    fixed = (
        1.0 / vector(tensors, norm.parameters["weight"]) if "weight" in norm.parameters else np.ones(weight.shape[dim])
    )
    fixed /= np.abs(fixed).max()
    total = 1.0 if norm.kind == "softmax" else 0.0
    if "bias" in norm.parameters:
        total = float(fixed @ vector(tensors, norm.parameters["bias"]))
    view = np.moveaxis(weight.copy(), (made, dim), (0, 1))
    added = random.standard_normal((view.shape[0], 1, *view.shape[2:]))
    view = view + added * fixed.reshape(1, -1, *[1] * (view.ndim - 2))
    out = {name: np.ascontiguousarray(np.moveaxis(view, (0, 1), (made, dim)))}
    if constant:
        bias = float64(tensors, reader.parameters["bias"])
        out[reader.parameters["bias"]] = bias - total * added.reshape(bias.size, -1).sum(1).reshape(bias.shape)
    return out
