"""symmetry/extras/mixing.py: GL(n) on an axis between linear maps, and weights that read what the axis never shows.

With A in GL(n): makers (W, b) → A(W, b), readers R → R·A⁻¹; in another frame F, A becomes F·A·F⁻¹. Of the n² directions the
monomial group already counts the scales. Where the makers reach only r < n dimensions, with projection P, the n·r-dimensional
group of A = I + X·P acts freely, and what reads the other n − r dimensions is free altogether.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from nfn_cli.symmetry.extras.branches import rows_of_its_own
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Overlay, Tensors, float64
from nfn_cli.symmetry.extras.hull import Hull, hull_of
from nfn_cli.symmetry.extras.linear_axis import LinearAxis, Reader, linear_axes
from nfn_cli.symmetry.extras.mix import random_mix, random_rotation
from nfn_cli.symmetry.extras.registry import extra_rule, first_rule
from nfn_cli.symmetry.extras.survey import Survey


@first_rule
def unreached(survey: Survey) -> list[Extra]:
    """They change no value. Mixing and shifts do, after which what is known here of the axes' values would be out of date."""
    return [
        _unreached(survey, reader, hull)
        for axis, hull in _filled(survey)
        for reader in axis.readers
        if hull.basis is not None
    ]


@extra_rule
def mixings(survey: Survey) -> list[Extra]:
    return [_mixing(survey, axis, hull) for axis, hull in _filled(survey)]


def _mixing(survey: Survey, axis: LinearAxis, hull: Hull) -> Extra:
    """Where lengths over the axis are taken A must be orthogonal; where means are, it must keep the vector of ones."""
    n = int(axis.live.sum())
    weights = tuple(
        op.parameters["weight"] for op in (*(op for op, _ in axis.makers), *(reader.op for reader in axis.readers))
    )
    member = partial(_mixed, axis, hull)
    if axis.lengths:
        m = n - axis.means
        why = f"these {axis.size} units meet linear maps and norms over all of them: O({m}) acts"
        return Extra("rotation", weights, m * (m - 1) // 2, 0.0, why, member)
    dimension = n * hull.dimension(n) - _monomial_scales(survey, axis)
    why = f"only linear maps meet at these {axis.size} units: GL({n}) acts"
    return Extra("linear-mixing", weights, dimension, 0.0, why, member)


def _filled(survey: Survey) -> Iterator[tuple[LinearAxis, Hull]]:
    """Linear axes that somebody reads, with what their values fill."""
    hulls: dict[str, Hull | None] = {}
    for axis in linear_axes(survey):
        hull = hull_of(survey, axis, hulls) if axis.readers else None
        hulls |= {value: hull if _is_plain(frame) else None for value, (_, frame) in axis.values.items()}
        if hull is not None and not (axis.lengths and hull.basis is not None):
            yield axis, hull


def _is_plain(frame: FloatArray) -> bool:
    return bool(np.all(frame == 1.0))


def _monomial_scales(survey: Survey, axis: LinearAxis) -> int:
    """How many independent scales of these units the monomial group has; each is a diagonal A."""
    reader, classes = axis.readers[0], survey.symmetry.classes["scale"]
    for action in survey.symmetry.actions.get(reader.op.parameters["weight"], ()):
        if action.dim == reader.op.attributes["in_axis"] and action.groups == 1:
            slots = reader.columns[axis.live, 0]
            entries, powers = action.scale[:, slots], action.power[:, slots]
            present = entries >= 0
            used, place = np.unique(classes[entries[present]], return_inverse=True)
            if len(used) == present.sum():  # each unit has scales of its own
                return int(present.any(0).sum())
            exponents = np.zeros((len(slots), len(used)))
            np.add.at(exponents, (np.nonzero(present)[1], place), powers[present])
            return int(np.linalg.matrix_rank(exponents))
    return 0


def _mixed(axis: LinearAxis, hull: Hull, tensors: Tensors, random: np.random.Generator) -> Mapping[str, FloatArray]:
    live = axis.live.astype(np.float64)
    mix = random_rotation(live, axis.means, random) if axis.lengths else random_mix(live, hull.basis, random)
    overlay, changed = Overlay(tensors), dict[str, FloatArray]()

    def put(name: str, new: FloatArray) -> None:
        changed[name] = new
        overlay.replaced({name: new})

    for op, frame in axis.makers:
        here, weight = mix.framed(frame), op.parameters["weight"]
        put(weight, here.along(float64(overlay, weight), op.attributes["out_axis"]))
        if "bias" in op.parameters:
            put(op.parameters["bias"], here.on_vector(float64(overlay, op.parameters["bias"])))
    for op, before, after in axis.norms:
        for role, frame in (("running_mean", before), ("bias", after)):
            if role in op.parameters:
                put(op.parameters[role], mix.framed(frame).on_vector(float64(overlay, op.parameters[role])))
    back = mix.inverse()
    for reader in axis.readers:
        here, weight = back.framed(reader.frame).transposed(), reader.op.parameters["weight"]
        put(weight, here.along(float64(overlay, weight), reader.op.attributes["in_axis"], reader.columns))
    return changed


def _unreached(survey: Survey, reader: Reader, hull: Hull) -> Extra:
    missing = len(reader.frame) - hull.dimension(len(reader.frame))
    weight = reader.op.parameters["weight"]
    rows = rows_of_its_own(survey, reader.op) * reader.columns.shape[1]
    tensors = (weight, reader.op.parameters["bias"]) if hull.point is not None else (weight,)
    why = f"{missing} dimensions of what is read here always stay the same"
    return Extra("unreached-weights", tensors, rows * missing, 0.0, why, partial(_unread_weights, reader, hull))


def _unread_weights(
    reader: Reader, hull: Hull, tensors: Tensors, random: np.random.Generator
) -> Mapping[str, FloatArray]:
    """Y with Y·basis = 0 is added to the weight; what it makes of the constant point goes into the bias."""
    op, dim = reader.op, reader.op.attributes["in_axis"]
    assert hull.basis is not None
    weight = float64(tensors, op.parameters["weight"])
    moved = np.moveaxis(weight, dim, 0).copy()
    added = random.standard_normal(moved[reader.columns].shape)  # (n, k, …)
    added -= np.tensordot(hull.basis, np.tensordot(hull.basis.T, added, 1), 1)
    moved[reader.columns] += added / reader.frame.reshape(-1, *[1] * (added.ndim - 1))
    out = {op.parameters["weight"]: np.ascontiguousarray(np.moveaxis(moved, 0, dim))}
    if hull.point is not None:
        bias = float64(tensors, op.parameters["bias"])
        change = np.moveaxis(np.tensordot(hull.point, added, 1), 0, 0)
        made = op.attributes["out_axis"] - (op.attributes["out_axis"] > dim)  # its place without the input axis
        change = np.moveaxis(change, made + 1, 0).reshape(bias.size, -1).sum(1)
        out[op.parameters["bias"]] = bias - change.reshape(bias.shape)
    return out
