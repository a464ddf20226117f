"""canonical/equalize.py: the member of the scale orbit with equal ranges on both sides of every unit. Knows couplings.

Nagel et al. 2019 (arXiv 1906.04721, eq. 11) equalize the largest |weight| that comes into a channel and the largest that goes out,
one pair of layers after the other; here a class of scales has all the tensors that the graph ties to it, on either side. The
sweeps begin at the balanced form, which is one per orbit, and so is what they reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nfn_cli.canonical.coupling import BoolArray, Coupling, Side
from nfn_cli.canonical.largest_entries import SPREAD, LargestEntries
from nfn_cli.canonical.pulls import Problem
from nfn_cli.canonical.schedule import Step, scheduled
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray

_SWEEPS = 300  # what is left then are common factors of whole layers, which no range use depends on
_TOLERANCE = 1e-10


def equalize(problem: Problem, x: FloatArray, live: BoolArray) -> None:
    """Equal largest |weight| on both sides of each live class, from x on, in place.

    Args:
        problem: couplings of largest entries, not of squares.
    """
    terms = [t for t in problem.terms if t.dims > 1 or _is_only_input(problem.terms, t)]
    steps = scheduled(terms, problem.family, live).steps
    groups = _Groups(terms)
    entries = [LargestEntries(term, (live | problem.settled).astype(np.float64)) for term in terms]
    ranges: list[_Ranges] = []
    room = -1.0  # how far the factors of a coupling may still move against each other
    for _ in range(_SWEEPS):
        if room < 0:
            spread, fresh = _chosen(groups, entries, groups.side.log_factor(x))
            room = SPREAD - spread
            ranges = _ranges(groups, entries, steps) if fresh else ranges
        worst = 0.0
        for step, each in zip(steps, ranges, strict=True):
            move = each.move(groups.side.log_factor(x)) * step.damping[each.classes]
            x[each.classes] += move
            worst = max(worst, float(np.max(np.abs(move), initial=0.0)))
        if worst < _TOLERANCE:
            return
        room -= 2 * groups.reach * worst


def _chosen(groups: _Groups, entries: Sequence[LargestEntries], factors: FloatArray) -> tuple[float, bool]:
    """Lists are made anew where factors have moved too far; the widest spread that is left, and whether any was."""
    spreads = [
        e.spread(factors[rows], factors[columns]) for e, (rows, columns) in zip(entries, groups.places, strict=True)
    ]
    fresh = max(spreads, default=0.0) > 0.75 * SPREAD
    if not fresh:
        return max(spreads, default=0.0), False
    for entry, spread, (rows, columns) in zip(entries, spreads, groups.places, strict=True):
        if spread > 0.25 * SPREAD:  # all that will soon be due at once: what follows costs more than the lists
            entry.choose(factors[rows], factors[columns])
    return 0.25 * SPREAD, True


class _Groups:
    """The groups of all sides of all couplings, one after another.

    Attributes:
        side: all of them as one side.
        places: for each coupling where its rows and its columns stand.
        reach: by how much a log-factor moves at most when no log-scale moves by more than 1.
    """

    def __init__(self, terms: Sequence[Coupling]) -> None:
        sides = [side for term in terms for side in (term.rows, term.columns)]
        depth = max((len(side.classes) for side in sides), default=1)
        padded = [_deep(side, depth) for side in sides]
        nothing = Side(np.zeros((depth, 0), np.int64), np.zeros((depth, 0)))
        self.side = Side(
            np.concatenate([side.classes for side in (nothing, *padded)], axis=1),
            np.concatenate([side.coefficient for side in (nothing, *padded)], axis=1),
        )
        self.reach = float(np.abs(self.side.coefficient).sum(axis=0).max(initial=0.0))
        ends = np.cumsum([0, *(side.classes.shape[1] for side in sides)]).tolist()
        spans = [slice(start, stop) for start, stop in pairwise(ends)]
        self.places = list(zip(spans[::2], spans[1::2], strict=True))


def _deep(side: Side, depth: int) -> Side:
    more = [(0, depth - len(side.classes)), (0, 0)]
    return Side(np.pad(side.classes, more, constant_values=-1), np.pad(side.coefficient, more))


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    """What one step looks at: the entries that its classes multiply, in order of class and direction.

    Attributes:
        classes: (C,) that have one range on either side.
        powers: (C,) power of the incoming entries less that of the outgoing ones.
        own, other: (E,) the groups of each entry.
        log: (E,) its unscaled log.
        starts: (2·C,) where the entries begin that come into each class, and those that go out of it, by turns.
    """

    classes: IntArray
    powers: FloatArray
    own: IntArray
    other: IntArray
    log: FloatArray
    starts: IntArray

    def move(self, factors: FloatArray) -> FloatArray:
        """(C,) the change of log-scale that makes both ranges equal."""
        if not len(self.classes):
            return np.zeros(0)
        largest = np.maximum.reduceat(self.log + factors[self.own] + factors[self.other], self.starts)
        return np.asarray((largest[1::2] - largest[::2]) / self.powers)


def _ranges(groups: _Groups, entries: Sequence[LargestEntries], steps: Sequence[Step]) -> list[_Ranges]:
    own, other, log = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for entry, (rows, columns) in zip(entries, groups.places, strict=True):
        at = entry.row + rows.start, entry.column + columns.start
        own, other, log = [*own, *at], [*other, *at[::-1]], [*log, entry.log, entry.log]
    table = np.concatenate(own), np.concatenate(other), np.concatenate(log)
    return [_ranges_of(groups.side, step.classes, *table) for step in steps]


def _ranges_of(side: Side, wanted: BoolArray, own: IntArray, other: IntArray, log: FloatArray) -> _Ranges:
    """A class counts if it multiplies entries by one positive and by one negative power."""
    which, classes, powers = [], [], []
    for row, coefficients in zip(side.classes, side.coefficient, strict=True):
        use = np.flatnonzero(wanted[row][own] & (coefficients[own] != 0))
        which.append(use)
        classes.append(row[own[use]])
        powers.append(coefficients[own[use]])
    entry, of_class, power = np.concatenate(which), np.concatenate(classes), np.concatenate(powers)
    size = len(wanted)
    least, most = np.full((2, size), np.inf), np.full((2, size), -np.inf)
    up = (power > 0).astype(np.int64)
    np.minimum.at(least, (up, of_class), power)
    np.maximum.at(most, (up, of_class), power)
    good = (least == most).all(axis=0)
    kept = good[of_class]
    entry, of_class, up = entry[kept], of_class[kept], up[kept]
    key = 2 * of_class + (1 - up)
    order = np.argsort(key, kind="stable")
    found = np.flatnonzero(good)
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    entry = entry[order]
    return _Ranges(found, most[1, found] - most[0, found], own[entry], other[entry], log[entry], starts)


def _is_only_input(terms: Sequence[Coupling], term: Coupling) -> bool:
    """A vector counts as a range only where no weight feeds its classes (γ behind a batch norm)."""
    classes = term.rows.classes[term.rows.coefficient > 0]
    fed = np.concatenate(
        [np.zeros(0, np.int64)]
        + [s.classes[s.coefficient > 0] for t in terms if t.dims > 1 for s in (t.rows, t.columns)]
    )
    return bool(len(classes)) and not np.isin(classes, fed).any()
