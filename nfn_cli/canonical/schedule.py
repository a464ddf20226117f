"""canonical/schedule.py: which scale families may be solved at the same time: those that no tensor couples to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.coupling import BoolArray, Coupling
from nfn_cli.canonical.pulls import live_families
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One simultaneous step.

    Attributes:
        classes: (classes + 1,) whose scales are set.
        terms: the couplings that pull at them.
        damping: (classes + 1,) 1, or 1/k where one entry holds k classes that all move: F is convex and each entry
            depends on k of them, so the mean of k single steps, each of which lowers F, lowers it too.
    """

    classes: BoolArray
    terms: tuple[Coupling, ...]
    damping: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Steps that together set every live class once, and the families that are coupled to others or to themselves."""

    steps: tuple[Step, ...]
    coupled: IntArray


def scheduled(terms: Sequence[Coupling], family: IntArray, live: BoolArray) -> Schedule:
    """Colour the families greedily in the order of the network, so that coupled ones get different colours."""
    numbers = np.unique(family[live])
    neighbours: dict[int, set[int]] = {int(n): set() for n in numbers}
    crowd = dict.fromkeys(neighbours, 1)  # how many classes of the family one entry may hold
    for term in terms:
        sides = [live_families(side, family, live) for side in (term.rows, term.columns)]
        present = [int(n) for rows in sides for n in np.unique(np.concatenate(rows))]
        rows = [int(n) for side in sides for row in side for n in row]
        for n in set(present):
            crowd[n] = max(crowd[n], rows.count(n))
        several = [set(side.tolist()) for side in (np.unique(np.concatenate(rows)) for rows in sides)]
        pairs = [(several[0], several[1])]
        for side in sides:
            pairs += [(set(a.tolist()), set(b.tolist())) for i, a in enumerate(side) for b in side[:i]]
        for left, right in pairs:
            for n in left:
                neighbours[n] |= right
            for n in right:
                neighbours[n] |= left
    colour: dict[int, int] = {}
    for n in neighbours:
        taken = {colour[m] for m in neighbours[n] if m in colour}
        colour[n] = next(c for c in range(len(colour) + 1) if c not in taken)
    of_family = np.full(int(family.max(initial=-1)) + 2, -1, np.int64)
    damping_of = np.ones(len(of_family))
    for n, c in colour.items():
        of_family[n], damping_of[n] = c, 1.0 / crowd[n]
    of_class = np.where(live, of_family[family], -1)
    damping = np.where(live, damping_of[family], 1.0)
    steps = []
    for c in range(max(colour.values(), default=-1) + 1):
        classes = of_class == c
        mine = [t for t in terms if any((classes[s.classes] & (s.coefficient != 0)).any() for s in (t.rows, t.columns))]
        steps.append(Step(classes, tuple(mine), damping))
    return Schedule(tuple(steps), np.array([n for n, others in neighbours.items() if others], np.int64))
