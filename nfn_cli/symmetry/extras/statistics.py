"""symmetry/extras/statistics.py: a batch norm divides by √(var + ε) and multiplies by γ: one of the two is redundant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Tensors, float64
from nfn_cli.symmetry.extras.registry import extra_rule
from nfn_cli.symmetry.extras.survey import Survey, is_exact


@extra_rule
def variances(survey: Survey) -> list[Extra]:
    """γ → c·γ, var → c²·(var + ε) − ε. The monomial group never moves these two alone: its scales also move weights."""
    out = []
    for op in survey.graph.ops:
        if op.kind != "batch_norm" or not is_exact(op):
            continue
        variance, gain = survey.own(op, "running_var"), survey.own(op, "weight")
        if variance is not None and gain is not None:
            size = int(np.size(survey.tensors[variance]))
            explanation = "the running variance of a batch norm only matters together with its weight"
            out.append(Extra("variance-against-weight", (variance, gain), size, 0.0, explanation, partial(_member, op)))
    return out


def _member(op: Op, tensors: Tensors, random: np.random.Generator) -> Mapping[str, FloatArray]:
    eps = float(op.attributes.get("eps", 1e-5))
    variance, gain = (float64(tensors, op.parameters[role]) for role in ("running_var", "weight"))
    factor = np.exp(random.uniform(-1.0, 1.0, variance.size))
    return {
        op.parameters["running_var"]: factor.reshape(variance.shape) ** 2 * (variance + eps) - eps,
        op.parameters["weight"]: factor.reshape(gain.shape) * gain,
    }
