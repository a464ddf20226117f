"""symmetry/degenerate.py: units that do nothing, never change, or repeat another. Where groups do not tell the whole story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import unfolded
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
_SLICE_ENTRIES = 1 << 18


@dataclass(frozen=True)
class Degenerate:
    """Unit numbers within one unit set.

    Attributes:
        dead: nothing reads them (all outgoing weights are 0).
        constant: nothing feeds them (all incoming weights are 0; a bias may make them a constant).
        duplicate: groups that compute the same thing from the same inputs, up to scale, sign and phase.
        norm_imbalance: largest |log10(incoming norm / outgoing norm)| among the other units, None without any.
        log10_ratios: log10(incoming norm / outgoing norm) of every unit; None for dead and constant ones.
    """

    dead: tuple[int, ...]
    constant: tuple[int, ...]
    duplicate: tuple[tuple[int, ...], ...]
    norm_imbalance: float | None
    log10_ratios: tuple[float | None, ...] = ()


def find_degenerate(
    symmetry: Symmetry, networks: Sequence[Network], tensors: Tensors, aliases: Mapping[str, str]
) -> tuple[Degenerate, ...]:
    """One `Degenerate` for each unit set; every tensor is read once."""
    units = symmetry.units
    weights = _weights(networks, aliases)
    incoming, outgoing, bias = np.zeros(units), np.zeros(units), np.zeros(units)
    probes = np.zeros((units, 3))
    read = np.zeros(units, bool)
    normalized = np.zeros(units, bool)
    for name, actions in symmetry.actions.items():
        for action in actions:
            use = action.unit >= 0
            if not use.any() or action.exponent == 0:
                continue
            array = tensors[name]
            # a layer with one input has a weight as small as its bias: only the graph tells them apart
            matrix = name in weights or (array.ndim > 1 and array.size > len(action.unit))
            if action.exponent == 2:
                normalized[action.unit[use]] = True
                continue
            phase = next((a.phase for a in actions if a.phase and a.dim == action.dim), 0.0)
            if phase:  # whole phase shifts are not a difference
                wide = array.astype(np.float64)
                array = wide - phase * np.round(wide / phase)
            squares, marks = _profile(*unfolded(array, action.dim, action.groups), name)
            at = action.unit[use]
            if action.exponent < 0:
                np.add.at(outgoing, at, squares[use])
                read[at] = True
            else:
                np.add.at(incoming if matrix else bias, at, squares[use])
                np.add.at(probes, at, marks[use])
    return tuple(
        _of_set(unit_set, incoming, outgoing, bias, probes, read, normalized) for unit_set in symmetry.unit_sets
    )


def _weights(networks: Sequence[Network], aliases: Mapping[str, str]) -> set[str]:
    """Tensors that bring the values of other units or inputs into a layer."""
    layers = [op for network in networks for op in network.graph.ops if op.kind in ("linear", "conv")]
    names = (op.parameters["weight"] for op in layers if "weight" in op.parameters)
    return {aliases.get(name, name) for name in names}


def _profile(array: np.ndarray[Any, np.dtype[Any]], dim: int, name: str) -> tuple[FloatArray, FloatArray]:
    """(n,) squared norm and (n, 3) random projections of each slice along `dim`, in float64, slice by slice."""
    n = array.shape[dim]
    moved = np.moveaxis(array, dim, 0)
    width = array.size // max(1, n)
    generator = np.random.default_rng([width, sum(name.encode())])
    directions = generator.standard_normal((width, 3))
    squares, marks = np.empty(n), np.empty((n, 3))
    rows = max(1, _SLICE_ENTRIES // max(1, width))
    for start in range(0, n, rows):
        part = moved[start : start + rows].reshape(min(rows, n - start), width).astype(np.float64)
        squares[start : start + rows] = np.einsum("ij,ij->i", part, part)
        marks[start : start + rows] = part @ directions
    return squares, marks


def _of_set(
    unit_set: UnitSet,
    incoming: FloatArray,
    outgoing: FloatArray,
    bias: FloatArray,
    probes: FloatArray,
    read: np.ndarray[Any, np.dtype[np.bool_]],
    normalized: np.ndarray[Any, np.dtype[np.bool_]],
) -> Degenerate:
    span = slice(unit_set.start, unit_set.start + unit_set.size)
    into, out, offset, mark = incoming[span], outgoing[span], bias[span], probes[span]
    dead = np.flatnonzero((out == 0) & read[span])
    constant = np.flatnonzero(into == 0)
    live = np.flatnonzero((into > 0) & (out > 0))
    imbalance = None
    ratios: list[float | None] = [None] * unit_set.size
    if len(live):
        logs = np.log10(np.sqrt(into[live] + offset[live]) / np.sqrt(out[live]))
        imbalance = float(np.max(np.abs(logs)))
        for unit, log in zip(live.tolist(), logs.tolist(), strict=True):
            ratios[unit] = log
    fed = np.flatnonzero(into > 0)
    # with batch norm a unit's function also depends on four more vectors: duplicates are not looked for there
    groups = () if normalized[span].any() else _duplicates(fed, mark, into + offset, unit_set)
    return Degenerate(_tuple(dead), _tuple(constant), groups, imbalance, tuple(ratios))


def _duplicates(fed: IntArray, mark: FloatArray, squares: FloatArray, unit_set: UnitSet) -> tuple[tuple[int, ...], ...]:
    """Units whose incoming weights and bias agree after the unit's own scale and sign are divided out."""
    if len(fed) < 2:
        return ()
    rows = mark[fed]
    scale = np.sqrt(squares[fed])
    if unit_set.families["scale"]:
        rows = rows / scale[:, None]
    if unit_set.families["sign"]:
        rows = rows * np.where(rows[:, :1] < 0, -1.0, 1.0)
    size = np.max(np.abs(rows), axis=0)
    cells = np.round(rows / np.where(size > 0, size, 1.0) * 1e6).astype(np.int64)
    _, group, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    found = [tuple(int(u) for u in fed[group == g]) for g in np.flatnonzero(count > 1)[:1000]]
    return tuple(sorted(found))


def _tuple(index: IntArray) -> tuple[int, ...]:
    return tuple(int(entry) for entry in index)
