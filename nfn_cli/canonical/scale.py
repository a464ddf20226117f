"""canonical/scale.py: the scale of the canonical form, as log-scales per class. Knows couplings; moves no tensor.

Balanced: the least Σ‖W‖² on the scale orbit, a sum of exponentials of linear functions of the log-scales x, hence convex.
Classes that nothing feeds or nothing reads have no minimum; they are left out, then get norm 1 on their other side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nfn_cli.canonical.balance import balance
from nfn_cli.canonical.coupling import BoolArray, Tensors, couplings, number_of_classes
from nfn_cli.canonical.equalize import equalize
from nfn_cli.canonical.folded_ranges import FoldedWeights, with_folded_ranges
from nfn_cli.canonical.norm_pairs import NormPair
from nfn_cli.canonical.pulls import Problem, energy_factor, live_classes, live_families
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Symmetry


def log_scales(symmetry: Symmetry, tensors: Tensors, mode: str, pairs: Sequence[NormPair] = ()) -> FloatArray:
    """(classes,) log of the scale of each class.

    Args:
        mode: "balanced", "unit", "pow2", "equalize" or "none".
        pairs: layers and the batch norms behind them, whose ranges "equalize" takes together.
    """
    count = number_of_classes(symmetry)
    x = np.zeros(count + 1)
    if mode == "none" or not count:
        return x[:-1]
    settled = np.zeros(count + 1, bool)
    settled[count] = True
    _settle_batch_norms(symmetry, tensors, x, settled)
    family = np.append(_families(symmetry, count), -1)
    problem = Problem(couplings(symmetry, tensors, x, settled), family, settled)
    absorbed = settled.copy()
    if mode == "unit":
        _unit(problem, x)
    else:
        live = live_classes(problem)
        balance(problem, x, live)
        if mode == "equalize":
            ranges = with_folded_ranges(symmetry, pairs), FoldedWeights(tensors, pairs)
            equalize(Problem(couplings(*ranges, x, settled, largest=True), family, settled), x, live)
        settled |= live
        _settle_degenerate(problem, x)
    if mode == "pow2":
        # what batch norm's statistics absorb is not exact in binary, and stays as it is
        x = np.where(absorbed, 0.0, np.round(x / np.log(2.0)) * np.log(2.0))
    return x[:-1]


def _families(symmetry: Symmetry, count: int) -> IntArray:
    """Class -> number of the (unit set, scale family) it first appears in."""
    family = np.full(count, -1, np.int64)
    number = 0
    for index, unit_set in enumerate(symmetry.unit_sets):
        start = symmetry.starts["scale"][index]
        for row in range(unit_set.families["scale"]):
            classes = symmetry.classes["scale"][start + row * unit_set.size : start + (row + 1) * unit_set.size]
            fresh = classes[family[classes] < 0]
            family[fresh] = number
            number += 1
    return family


def _settle_batch_norms(symmetry: Symmetry, tensors: Tensors, x: FloatArray, settled: BoolArray) -> None:
    """c²(var + ε) = 1; where several norms read one class, their geometric mean."""
    total, times = np.zeros(len(x)), np.zeros(len(x))
    for name, actions in symmetry.actions.items():
        for action in actions:
            if action.exponent == 2:
                scale, power = action.scale[0], action.power[0]  # such a magnitude is never a product
                use = scale >= 0
                classes = symmetry.classes["scale"][scale[use]]
                variance = tensors[name].reshape(-1).astype(np.float64)[use] + action.offset
                good = variance > 0
                np.add.at(total, classes[good], -0.5 * np.log(variance[good]) / power[use][good])
                np.add.at(times, classes[good], 1)
                settled[classes] = True
    x[times > 0] = (total / np.maximum(times, 1))[times > 0]


def _settle_degenerate(problem: Problem, x: FloatArray) -> None:
    """Give classes with one empty side norm 1 on the other, from the settled neighbours outward."""
    settled, family = problem.settled, problem.family
    while not settled.all():
        open_ = ~settled
        into, out = _one_sided(problem, x, open_)
        by_in, by_out = open_ & (into > 0), open_ & (into <= 0) & (out > 0)
        if not by_in.any() and not by_out.any():
            settled |= open_ & (family == family[open_].min())
            continue
        x[by_in] -= 0.5 * np.log(into[by_in])
        x[by_out] += 0.5 * np.log(out[by_out])
        settled |= by_in | by_out


def _one_sided(problem: Problem, x: FloatArray, open_: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Incoming and outgoing squared norms of open classes, counting only weights whose other end is settled."""
    size = len(x)
    into, out = np.zeros(size), np.zeros(size)
    weight = np.where(open_, 0.0, 1.0)
    for term in problem.terms:
        for side, other, summed in term.ends():
            wanted = open_[side.classes] & (side.coefficient != 0)
            if not wanted.any():
                continue
            strength = np.exp(2 * side.log_factor(x)) * summed(energy_factor(other, x, weight))
            for classes, coefficients, take in zip(side.classes, side.coefficient, wanted, strict=True):
                up = take & (coefficients > 0)
                down = take & (coefficients < 0)
                np.add.at(into, classes[up], strength[up])
                np.add.at(out, classes[down], strength[down])
    return into, out


def _unit(problem: Problem, x: FloatArray) -> None:
    """Incoming norm 1, family by family in the order of the network; unfed classes by their outgoing norm."""
    family, settled = problem.family, problem.settled
    touching: dict[int, list[int]] = {}
    for position, term in enumerate(problem.terms):
        for side in (term.rows, term.columns):
            for number in np.unique(np.concatenate(live_families(side, family, ~settled))):
                touching.setdefault(int(number), []).append(position)
    for number in np.unique(family[~settled]):
        mine = (family == number) & ~settled
        terms = [problem.terms[position] for position in dict.fromkeys(touching.get(int(number), []))]
        into, _ = _one_sided(Problem(terms, family, settled), x, mine)
        good = mine & (into > 0)
        x[good] -= 0.5 * np.log(into[good])
        settled |= good
    _settle_degenerate(problem, x)
