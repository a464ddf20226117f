"""symmetry/extras/reflections.py: activations with a centre, σ(a − z) = c − σ(z), and the involution of a learned prelu slope.

One reflection a unit: what makes z is turned into a − z, what reads y is made to read c − y.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import log10

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Overlay, Tensors, float64, vector
from nfn_cli.symmetry.extras.linear_axis import BoolArray
from nfn_cli.symmetry.extras.registry import extra_rule
from nfn_cli.symmetry.extras.survey import Survey
from nfn_cli.symmetry.extras.takers import Taker, takers

# function -> (a, c). Odd functions have a = c = 0 and belong to the monomial group.
CENTRES = {"sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "relu6": (6.0, 6.0)}


@extra_rule
def reflections(survey: Survey) -> list[Extra]:
    out = []
    for op in survey.graph.ops:
        centre = _centre(op)
        if centre is None:
            continue
        maker, axis = _maker(survey, op, needs_bias=centre[0] != 0.0)
        behind = None if maker is None else takers(survey, op.output, axis, constant=centre[1] != 0.0)
        if maker is None or behind is None:
            continue
        size = _channels(survey, op, axis)
        tensors = (*maker.parameters.values(), *(taker.op.parameters["weight"] for taker in behind))
        why = f"{op.attributes.get('function', 'a clipped value')} has a centre of symmetry: each unit can be reflected"
        member = partial(_reflected, maker, tuple(behind), centre, size)
        out.append(Extra("reflection", tensors, 0, size * log10(2), why, member))
    return out


@extra_rule
def slope_involutions(survey: Survey) -> list[Extra]:
    """(w, b) → −(w, b), slope a → 1/a, outgoing v → −a·v."""
    out = []
    for op in survey.graph.ops:
        slope = survey.own(op, "weight") if op.kind == "pointwise" and op.attributes["function"] == "prelu" else None
        maker, axis = _maker(survey, op, needs_bias=False) if slope is not None else (None, 0)
        behind = None if maker is None else takers(survey, op.output, axis, constant=False)
        if slope is None or maker is None or behind is None or (axis != 1 and np.size(survey.tensors[slope]) > 1):
            continue
        slopes, size = survey.vector(slope), _channels(survey, op, axis)
        usable = (np.abs(slopes) > 1e-30) & np.isfinite(slopes)
        tensors = (slope, *maker.parameters.values(), *(taker.op.parameters["weight"] for taker in behind))
        why = "a learned slope a may become 1/a when its unit is turned round"
        member = partial(_inverted, maker, tuple(behind), slope, usable, size)
        out.append(Extra("slope-involution", tensors, 0, float(usable.sum() * log10(2)), why, member))
    return out


def _centre(op: Op) -> tuple[float, float] | None:
    if op.kind == "pointwise":
        return CENTRES.get(op.attributes["function"])
    low, high = op.attributes.get("low"), op.attributes.get("high")
    return (low + high, low + high) if op.kind == "clip" and low is not None and high is not None else None


def _channels(survey: Survey, op: Op, axis: int) -> int:
    return int((survey.shapes[op.output] or ())[axis] or 0)


def _maker(survey: Survey, op: Op, needs_bias: bool) -> tuple[Op | None, int]:
    """The layer whose output goes into this activation alone, if it can turn it round unit by unit."""
    maker, shape = survey.maker.get(op.inputs[0]), survey.shapes[op.output]
    if maker is None or shape is None or len(survey.readers[op.inputs[0]]) != 1 or not survey.free(maker):
        return None, 0
    axis = len(shape) - 1 if maker.kind == "linear" else 1
    plain = maker.kind in ("linear", "conv", "batch_norm") and len(maker.inputs) == 1
    plain = plain and not maker.attributes.get("transposed") and maker.attributes.get("trained", True)
    if not plain or "weight" not in maker.parameters or shape[axis] is None:
        return None, 0
    return (None if needs_bias and "bias" not in maker.parameters else maker), axis


def _some(size: int, random: np.random.Generator) -> BoolArray:
    """Half of them, one at least."""
    chosen = random.random(size) < 0.5
    chosen[random.integers(size)] = True
    return chosen


def _turned(maker: Op, chosen: FloatArray, a: float, tensors: Tensors) -> dict[str, FloatArray]:
    """z → a − z on the chosen units."""
    sign = np.where(chosen, -1.0, 1.0)
    weight = float64(tensors, maker.parameters["weight"])
    if maker.kind == "batch_norm":
        out = {maker.parameters["weight"]: sign.reshape(weight.shape) * weight}
    else:
        dim = maker.attributes["out_axis"]
        out = {maker.parameters["weight"]: weight * sign.reshape([-1 if d == dim else 1 for d in range(weight.ndim)])}
    if "bias" in maker.parameters:
        bias = float64(tensors, maker.parameters["bias"])
        out[maker.parameters["bias"]] = (sign * bias.reshape(-1) + a * chosen).reshape(bias.shape)
    return out


def _undone(
    behind: tuple[Taker, ...], factor: FloatArray, constant: FloatArray, overlay: Overlay
) -> dict[str, FloatArray]:
    out: dict[str, FloatArray] = {}
    for taker in behind:
        changed = taker.undo(factor, constant, overlay)
        overlay.replaced(changed)
        out.update(changed)
    return out


def _reflected(
    maker: Op,
    behind: tuple[Taker, ...],
    centre: tuple[float, float],
    size: int,
    tensors: Tensors,
    random: np.random.Generator,
) -> Mapping[str, FloatArray]:
    chosen = _some(size, random).astype(np.float64)
    overlay = Overlay(tensors)
    changed = _turned(maker, chosen, centre[0], overlay)
    overlay.replaced(changed)
    return changed | _undone(behind, np.where(chosen, -1.0, 1.0), centre[1] * chosen, overlay)


def _inverted(
    maker: Op,
    behind: tuple[Taker, ...],
    slope: str,
    usable: BoolArray,
    size: int,
    tensors: Tensors,
    random: np.random.Generator,
) -> Mapping[str, FloatArray]:
    slopes = vector(tensors, slope)
    turned = usable & _some(len(slopes), random)
    new = np.where(turned, 1.0 / np.where(turned, slopes, 1.0), slopes)
    chosen = np.broadcast_to(turned.astype(np.float64), (size,))
    factor = np.broadcast_to(np.where(turned, -new, 1.0), (size,))
    overlay = Overlay(tensors)
    changed = _turned(maker, chosen, 0.0, overlay)
    overlay.replaced(changed)
    changed |= _undone(behind, factor, np.zeros(size), overlay)
    return changed | {slope: new.reshape(tensors[slope].shape)}
