"""match/diff_scales.py: scales under which as much as possible agrees exactly, where two networks differ in few units.

Scales that make the squared difference least spread one changed unit over all its neighbours. Each scale is set to the weighted
median of the ratios of the entries it acts on instead: first by what feeds a unit, from the inputs on, then by all it touches.
A few entries that differ then leave it exactly where the others put it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nfn_cli.match.diff_distance import distances
from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.match.state import BoolArray, State, by_class, single_classes
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray, identity
from nfn_cli.symmetry.solve import Action, Symmetry

_SWEEPS = 6
# Steps that are so small a part of the noise are the last.
_STILL = 0.01
# Ratios are taken from so many entries of a slot: a median of more says the same.
_ENTRIES = 256


def settled_scales(
    symmetry: Symmetry, ours: Wide, theirs: Wide, weights: Mapping[str, float], shared: BoolArray, noise: float
) -> Wide:
    """Our weights, rescaled.

    Args:
        ours, theirs: matched, in one frame.
        weights: tensor -> what its squared differences count.
        shared: (units,) units that both have.
        noise: a difference that counts as none; ratios so close to the median are averaged.
    """
    if not len(symmetry.classes["scale"]):
        return ours
    state = State(symmetry, ours, theirs, weights)
    agreeing = np.zeros(symmetry.units, bool)
    for sweep in range(_SWEEPS):
        largest = 0.0
        for number, unit_set in enumerate(symmetry.unit_sets):
            touching = state.touching[number]
            if not sweep:
                touching = [a for a in touching if _feeds(symmetry, a, number)] or touching
            for family in range(unit_set.families["scale"]):
                move = _median_move(state, number, family, touching, agreeing, noise)
                largest = max(largest, float(np.abs(np.log(move.scale)).max(initial=0.0)))
                state.apply(move, only_better=False)
        if not sweep:
            # what feeds these units says enough: if what reads them differs, that is a change of those who read
            agreeing = distances(symmetry, state.ours, theirs, shared).residual <= noise
        elif largest < _STILL * noise:
            break
    return state.ours


def _feeds(symmetry: Symmetry, action: Action, number: int) -> bool:
    """Whether the tensor makes this set from sets before it."""
    start = symmetry.unit_sets[number].start
    others = [a for a in symmetry.actions[action.tensor] if a.dim != action.dim]
    return action.exponent > 0 and all((a.unit < start).all() for a in others)


def _median_move(
    state: State, number: int, family: int, touching: Sequence[Action], agreeing: BoolArray, noise: float
) -> FlatElement:
    symmetry, move = state.symmetry, identity(state.symmetry)
    count = int(symmetry.classes["scale"].max(initial=-1)) + 1
    mine = np.zeros(count + 1, bool)  # the last one: no class
    unit_set, classes = symmetry.unit_sets[number], single_classes(symmetry, "scale", number, family)
    mine[classes] = True
    mine[classes[agreeing[unit_set.start : unit_set.start + unit_set.size]]] = False
    found = [_ratios(state, seen, mine) for seen in touching]
    entries, ratios, sizes = (np.concatenate([np.zeros(0), *(part[i] for part in found)]) for i in range(3))
    logs = _medians(entries.astype(np.int64), ratios, sizes, count, noise)
    move.scale[:] = by_class(symmetry, "scale", np.exp(np.where(mine[:-1], logs, 0.0)))
    return move


def _ratios(state: State, seen: Action, mine: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Class, log of the scale it would need, and weight of each entry."""
    symmetry = state.symmetry
    padded = np.append(symmetry.classes["scale"], -1)
    ours, theirs = (_sampled(rows_of(side[seen.tensor], seen)) for side in (state.ours, state.theirs))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.sqrt(ours * theirs)
        ratio = np.log(theirs / ours)
    usable = (size > 0) & np.isfinite(ratio)  # of equal sign, and neither is 0
    size *= np.sqrt(state.weights[seen.tensor])
    found: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for action in symmetry.actions[seen.tensor]:
        if action.dim != seen.dim or not action.exponent:
            continue
        for entries, powers in zip(padded[action.scale], action.power, strict=True):
            use = mine[entries] & (powers != 0)
            if action.exponent == 2:
                mine[entries[use]] = False  # settled in closed form by the batch norm
                continue
            slots, columns = np.nonzero(usable & use[:, None])
            needed = ratio[slots, columns] / (powers[slots] * action.exponent)
            found.append((entries[slots], needed, size[slots, columns]))
    empty = np.zeros(0)
    return (
        np.concatenate([np.zeros(0, np.int64), *(part[0] for part in found)]),
        np.concatenate([empty, *(part[1] for part in found)]),
        np.concatenate([empty, *(part[2] for part in found)]),
    )


def _sampled(rows: FloatArray) -> FloatArray:
    if rows.shape[1] <= _ENTRIES:
        return rows
    return rows[:, np.linspace(0, rows.shape[1] - 1, _ENTRIES).astype(np.int64)]


def _medians(classes: IntArray, values: FloatArray, weights: FloatArray, count: int, noise: float) -> FloatArray:
    """(count,) weighted median of each class's values, then the mean of those within `noise` of it; 0 without any."""
    out = np.zeros(count)
    if not len(classes):
        return out
    order = np.lexsort((values, classes))
    classes, values, weights = classes[order], values[order], weights[order]
    total = np.bincount(classes, weights, count)
    before = np.cumsum(total) - total
    middle = np.searchsorted(np.cumsum(weights), before + total / 2)
    present = np.flatnonzero(total > 0)
    out[present] = values[np.minimum(middle[present], len(values) - 1)]
    near = np.abs(values - out[classes]) <= noise
    mass = np.bincount(classes[near], weights[near], count)
    mean = np.bincount(classes[near], (weights * values)[near], count)
    return np.divide(mean, mass, out=out, where=mass > 0)
