"""canonical/pulls.py: what a scale problem is, and how hard the weights pull at each class of scales. Moves no tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.blocks import whole
from nfn_cli.canonical.coupling import BoolArray, Coupling, Side
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Couplings of classes of scales; log-scales are a vector x (classes + 1,) whose last entry is 0 and means "fixed".

    Attributes:
        terms: one coupling for each tensor that scales touch.
        family: (classes + 1,) number of the (unit set, scale family) of each class, −1 for "fixed".
        settled: (classes + 1,) classes whose scale is already known.
    """

    terms: list[Coupling]
    family: IntArray
    settled: BoolArray


def energy_factor(side: Side, x: FloatArray, weight: FloatArray) -> FloatArray:
    """(groups,) by what the scales multiply the squared entries of each group; 0 where a class of weight 0 is among them."""
    counted = np.where(side.coefficient != 0, weight[side.classes], 1.0).prod(axis=0)
    return np.asarray(np.exp(2 * side.log_factor(x)) * counted)


def pulls(
    terms: Sequence[Coupling],
    x: FloatArray,
    wanted: BoolArray,
    weight: FloatArray,
) -> dict[float, FloatArray]:
    """For each coefficient c: per class, the sum of the entries that the class multiplies by exp(c·x), at x.

    Args:
        wanted: (classes + 1,) which classes are asked for.
        weight: (classes + 1,) 1 where a class counts, 0 where entries it touches are left out.
    """
    found: dict[float, FloatArray] = {}
    for term in terms:
        for side, other, summed in term.ends():
            asked = wanted[side.classes] & (side.coefficient != 0)
            if not asked.any():
                continue
            strength = energy_factor(side, x, weight) * summed(energy_factor(other, x, weight))
            for classes, coefficients, take in zip(side.classes, side.coefficient, asked, strict=True):
                for c in np.unique(coefficients[take]):
                    at = take & (coefficients == c)
                    np.add.at(found.setdefault(float(c), np.zeros(len(x))), classes[at], strength[at])
    return found


def both_ways(found: dict[float, FloatArray], size: int) -> tuple[FloatArray, FloatArray]:
    """Pulls of entries that grow with the class, and of those that shrink."""
    into = sum((p for c, p in found.items() if c > 0), np.zeros(size))
    out = sum((p for c, p in found.items() if c < 0), np.zeros(size))
    return into, out


def live_classes(problem: Problem) -> BoolArray:
    """Classes with weights on both sides, after leaving out, again and again, those that have none."""
    live = ~problem.settled
    zeros = np.zeros(len(live))
    while True:
        counted = (live | problem.settled).astype(np.float64)
        into, out = both_ways(pulls(problem.terms, zeros, live, counted), len(live))
        still = live & (into > 0) & (out > 0)
        if np.array_equal(still, live):
            return live
        live = still


def collapsed(terms: Sequence[Coupling], x: FloatArray, live: BoolArray, weight: FloatArray) -> list[Coupling]:
    """The couplings seen by live classes alone: a side without any is summed up once; couplings without any are dropped."""
    out = []
    for term in terms:
        rows, columns = (_is_live(side, live).any() for side in (term.rows, term.columns))
        if rows and columns:
            out.append(term)
        elif rows:
            out.append(_one_sided(term, term.rows, term.matrix.times(energy_factor(term.columns, x, weight))))
        elif columns:
            out.append(_one_sided(term, term.columns, term.matrix.times_left(energy_factor(term.rows, x, weight))))
    return out


def _one_sided(term: Coupling, side: Side, column: FloatArray) -> Coupling:
    nothing = Side(np.full((1, 1), -1, np.int64), np.zeros((1, 1)))
    return Coupling(term.tensor, whole(column[:, None]), side, nothing, term.dims)


def _is_live(side: Side, live: BoolArray) -> BoolArray:
    return np.asarray(live[side.classes] & (side.coefficient != 0))


def live_families(side: Side, family: IntArray, live: BoolArray) -> list[IntArray]:
    """For each row of the side's classes the live families in it."""
    return [np.unique(family[c[use]]) for c, use in zip(side.classes, _is_live(side, live), strict=True)]
