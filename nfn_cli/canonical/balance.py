"""canonical/balance.py: the member of the scale orbit with the least Σ‖W‖², and the one with equal ranges. Knows couplings.

Σ‖W‖² is a sum of exponentials of linear functions of the log-scales, hence convex. Families that no tensor couples are
solved at the same time, each class in closed form; coupled ones by turns, with Newton steps on their common scales between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nfn_cli.canonical.common_scales import CommonScales
from nfn_cli.canonical.coupling import BoolArray, Coupling
from nfn_cli.canonical.pulls import Problem, collapsed, pulls
from nfn_cli.canonical.schedule import scheduled
from nfn_cli.symmetry.element import FloatArray

_SWEEPS = 3000
_TOLERANCE = 1e-13


def balance(problem: Problem, x: FloatArray, live: BoolArray) -> None:
    """Set the log-scales of the live classes, in place."""
    weight = (live | problem.settled).astype(np.float64)
    terms = collapsed(problem.terms, x, live, weight)
    schedule = scheduled(terms, problem.family, live)
    common = CommonScales(terms, problem.family, live, schedule.coupled)
    for sweep in range(_SWEEPS):
        worst = 0.0
        if sweep % 2 == 0 and len(schedule.coupled):
            common.step(x, weight)
        for step in schedule.steps:
            move = _minimizer(pulls(step.terms, x, step.classes, weight), step.classes) * step.damping
            x += move
            worst = max(worst, float(np.max(np.abs(move), initial=0.0)))
        if worst < _TOLERANCE:
            return


def _minimizer(found: dict[float, FloatArray], mine: BoolArray) -> FloatArray:
    """Per class the d that minimizes Σ_c E_c e^{2cd}: closed form for two coefficients, Newton otherwise."""
    size = len(mine)
    if len(found) == 2 and min(found) < 0 < max(found):
        (low, e_low), (high, e_high) = sorted(found.items())
        with np.errstate(divide="ignore", invalid="ignore"):
            d = np.log((-low * e_low) / (high * e_high)) / (2 * (high - low))
        return np.where(mine & np.isfinite(d), d, 0.0)
    d = np.zeros(size)
    for _ in range(100):
        gradient, curvature = np.zeros(size), np.full(size, 1e-300)
        for c, energy in found.items():
            term = energy * np.exp(2 * c * d)
            gradient += 2 * c * term
            curvature += 4 * c * c * term
        step = np.clip(-gradient / curvature, -1.0, 1.0)
        d += np.where(mine, step, 0.0)
        if float(np.max(np.abs(step[mine]), initial=0.0)) < 1e-14:
            break
    return np.where(mine, d, 0.0)


def equalize(problem: Problem, x: FloatArray, live: BoolArray) -> None:
    """Equal largest |weight| on both sides of each class (Nagel et al. 2019, arXiv 1906.04721, eq. 11), from x on, in place.

    Args:
        problem: couplings of largest entries, not of squares.
    """
    terms = [t for t in problem.terms if t.dims > 1 or _is_only_input(problem.terms, t)]
    weight = (live | problem.settled).astype(np.float64)
    schedule = scheduled(terms, problem.family, live)
    for _ in range(_SWEEPS):
        worst = 0.0
        for step in schedule.steps:
            found = pulls(step.terms, x, step.classes, weight, np.maximum, 1.0)
            move = _ratio(found, step.classes) * step.damping
            x += move
            worst = max(worst, float(np.max(np.abs(move), initial=0.0)))
        if worst < 1e-12:
            return


def _ratio(found: dict[float, FloatArray], mine: BoolArray) -> FloatArray:
    """Per class the d that makes its two ranges equal; 0 where it has not exactly two."""
    size = len(mine)
    ranges, power, kinds = np.zeros((2, size)), np.zeros((2, size)), np.zeros((2, size), np.int64)
    for c, largest in found.items():
        here = mine & (largest > 0)
        ranges[int(c > 0), here], power[int(c > 0), here] = largest[here], c
        kinds[int(c > 0)] += here
    good = mine & (kinds == 1).all(axis=0)
    move = np.zeros(size)
    move[good] = np.log(ranges[0, good] / ranges[1, good]) / (power[1, good] - power[0, good])
    return move


def _is_only_input(terms: Sequence[Coupling], term: Coupling) -> bool:
    """A vector counts as a range only where no weight feeds its classes (γ behind a batch norm)."""
    classes = term.rows.classes[term.rows.coefficient > 0]
    fed = np.concatenate(
        [np.zeros(0, np.int64)]
        + [s.classes[s.coefficient > 0] for t in terms if t.dims > 1 for s in (t.rows, t.columns)]
    )
    return bool(len(classes)) and not np.isin(classes, fed).any()
