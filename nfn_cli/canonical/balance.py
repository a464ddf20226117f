"""canonical/balance.py: the member of the scale orbit with the least Σ‖W‖². Knows couplings.

Σ‖W‖² is a sum of exponentials of linear functions of the log-scales, hence convex. Families that no tensor couples are
solved at the same time, each class in closed form; coupled ones by turns, with Newton steps on their common scales between.
"""

from __future__ import annotations

import numpy as np

from nfn_cli.canonical.common_scales import CommonScales
from nfn_cli.canonical.coupling import BoolArray
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
