"""match/fingerprint_scales.py: scales of many networks at once, near their balanced forms. Knows plans, sums of squares.

`canonical/` balances one network to the last digit. Here the start is already a point that the orbit settles (incoming norm
1, from layer to layer), so any number of sweeps towards the balanced form from there is invariant, and few will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from nfn_cli.match.fingerprint_moments import Moments
from nfn_cli.match.fingerprint_plan import FingerprintPlan, Slots, TensorPlan
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
_SWEEPS = 40
_FEW_SWEEPS = 8  # where every one reads hundreds of megabytes
_TOLERANCE = 1e-7
_TINY = 1e-280  # below this a sum of squares is nothing


@dataclass(frozen=True, eq=False)
class Scales:
    """What the scales of many networks are.

    Attributes:
        log: (networks, classes + 1) log-scales, the last 0.
        live: (networks, classes + 1) 0 for classes that nothing feeds or nothing reads: their weights do not count.
    """

    log: FloatArray
    live: FloatArray

    def factor(self, slots: Slots, power: float = 1.0) -> FloatArray:
        """(networks, slots) by what the entries of each slot are multiplied; 0 for those that do not count."""
        out = np.ones((len(self.log), len(slots)))
        if not slots.coefficient.any():
            return out
        total = np.zeros_like(out)
        for classes, coefficient in zip(slots.classes, slots.coefficient, strict=True):
            total += coefficient * self.log[:, classes]
            if not self.all_live:
                out *= np.where(coefficient != 0, self.live[:, classes], 1.0)
        total = np.exp(power * total)
        return total if self.all_live else total * out

    @cached_property
    def all_live(self) -> bool:
        return bool((self.live == 1.0).all())


@dataclass(frozen=True, eq=False)
class _Step:
    """One family's turn.

    Attributes:
        classes: (classes + 1,) bool, the family's.
        tensors: positions of those that it pulls at.
        damping: 1, or 1/k where one entry holds k classes that all move: the sum of squares is convex, so the mean of k
            single steps, each of which lowers it, lowers it too.
    """

    classes: BoolArray
    tensors: tuple[int, ...]
    damping: float


@dataclass(frozen=True, eq=False)
class ScalePlan:
    """Which families are solved in which order; the same for all networks of a graph."""

    plan: FingerprintPlan

    @cached_property
    def steps(self) -> tuple[_Step, ...]:
        """One for each family, in the order of the network."""
        family, free = self.plan.family, self.free
        steps = []
        for number in np.unique(family[free]):
            mine = free & (family == number)
            held = [_times_held(tensor, mine) if is_coupling(tensor) else 0 for tensor in self.plan.tensors]
            touched = tuple(position for position, times in enumerate(held) if times)
            steps.append(_Step(mine, touched, 1.0 / max(1, *held)))
        return tuple(steps)

    @cached_property
    def free(self) -> BoolArray:
        """(classes + 1,) those that no batch norm settles."""
        free = np.ones(self.plan.classes + 1, bool)
        free[-1] = False
        for tensor in self.plan.tensors:
            if tensor.variance:
                free[tensor.rows.classes] = False
        return free

    def solve(self, squares: Sequence[Moments], count: int) -> Scales:
        """Scales of so many networks, whose squares these are, in the order of the plan's tensors."""
        size = self.plan.classes + 1
        scales = Scales(np.zeros((count, size)), np.ones((count, size)))
        if size == 1:
            return scales
        self._settle_batch_norms(squares, scales)
        terms = [s for s in squares if is_coupling(s.plan)]
        scales = self._with_live(terms, scales)
        self._start(terms, scales)
        for _ in range(_FEW_SWEEPS if self.plan.large else _SWEEPS):
            worst = 0.0
            for step in self.steps:
                found = _pulls([squares[position] for position in step.tensors], scales, step.classes)
                move = _minimizer(found, step.classes) * step.damping
                scales.log[:] += move
                worst = max(worst, float(np.max(np.abs(move), initial=0.0)))
            if worst < _TOLERANCE:
                break
        return scales

    def _settle_batch_norms(self, squares: Sequence[Moments], scales: Scales) -> None:
        """c²(var + ε) = 1; where several norms read one class, their geometric mean."""
        total, times = np.zeros_like(scales.log), np.zeros(self.plan.classes + 1)
        for term in squares:
            if term.plan.variance:
                slots = term.plan.rows
                variance = term.squares.by_row(np.ones((len(scales.log), 1)))
                log_variance = 0.5 * np.log(np.maximum(variance, _TINY))
                for classes, coefficient in zip(slots.classes, slots.coefficient, strict=True):
                    at = np.flatnonzero(coefficient)
                    index = classes[at]
                    _add(total, index, -log_variance[:, at] / coefficient[at], _once(index))
                    np.add.at(times, classes[at], 1.0)
        here = times > 0
        scales.log[:, here] = total[:, here] / times[here]
        scales.log[:, -1] = 0.0

    def _with_live(self, terms: Sequence[Moments], scales: Scales) -> Scales:
        """Leave out, again and again, what nothing feeds or nothing reads."""
        free = self.free
        while True:
            found = _pulls(terms, scales, free)
            into, out = (sum((p for c, p in found.items() if c * s > 0), np.zeros_like(scales.log)) for s in (1, -1))
            still = np.where(free, (into > _TINY) & (out > _TINY) & (scales.live > 0), True).astype(np.float64)
            if np.array_equal(still, scales.live):
                return scales
            scales = Scales(scales.log, still)

    def _start(self, terms: Sequence[Moments], scales: Scales) -> None:
        """Incoming norm 1, family by family, counting only weights whose other end is settled."""
        settled = ~self.free
        family = self.plan.family
        for number in np.unique(family[self.free]):
            mine = self.free & (family == number)
            found = _pulls(terms, scales, mine, settled)
            into = sum((p for c, p in found.items() if c > 0), np.zeros_like(scales.log))
            good = mine & (into > _TINY)
            scales.log[good] -= 0.5 * np.log(into[good])
            settled = settled | mine


def is_coupling(tensor: TensorPlan) -> bool:
    """Whether free scales pull at the tensor."""
    return not tensor.variance and any(slots.coefficient.any() for slots in (tensor.rows, tensor.columns))


def _times_held(tensor: TensorPlan, mine: BoolArray) -> int:
    """How many of these classes one entry may hold."""
    both = (tensor.rows, tensor.columns)
    return sum(int((mine[s.classes] & (s.coefficient != 0)).any(axis=1).sum()) for s in both)


def _pulls(
    terms: Sequence[Moments], scales: Scales, wanted: BoolArray, counted: BoolArray | None = None
) -> dict[float, FloatArray]:
    """For each coefficient c: (networks, classes + 1) the sum of squares that the class multiplies by exp(2c·x), at x.

    Args:
        wanted: (classes + 1,) which classes are asked for.
        counted: (classes + 1,) entries that touch other classes than these and the wanted one are left out.
    """
    far = scales if counted is None else Scales(scales.log, scales.live * counted)
    near = scales if counted is None else Scales(scales.log, scales.live * (counted | wanted))
    found: dict[float, FloatArray] = {}
    for term in terms:
        for own, other, to_rows, asked in _asked(term.plan, wanted.tobytes()):
            across = term.squares.by_row if to_rows else term.squares.by_column
            strength = near.factor(own, 2.0) * across(far.factor(other, 2.0))
            for place in asked:
                total = found.setdefault(place.coefficient, np.zeros_like(scales.log))
                _add(total, place.classes, strength[:, place.at], place.once)
    return found


@dataclass(frozen=True, eq=False)
class _Place:
    """Slots that one coefficient of classes is in.

    Attributes:
        at, classes: slots, and the class of each.
        once: whether no class comes twice.
    """

    coefficient: float
    at: IntArray
    classes: IntArray
    once: bool


@lru_cache(maxsize=256)
def _asked(plan: TensorPlan, wanted: bytes) -> tuple[tuple[Slots, Slots, bool, tuple[_Place, ...]], ...]:
    """The sides of a tensor that hold any of these classes, and where; the same for all networks and all sweeps."""
    mine, found = np.frombuffer(wanted, bool), []
    for own, other, to_rows in _ends(plan):
        asked = mine[own.classes] & (own.coefficient != 0)
        places = []
        for classes, coefficient, take in zip(own.classes, own.coefficient, asked, strict=True):
            for c in np.unique(coefficient[take]):
                at = np.flatnonzero(take & (coefficient == c))
                places.append(_Place(float(c), at, classes[at], _once(classes[at])))
        if places:
            found.append((own, other, to_rows, tuple(places)))
    return tuple(found)


def _ends(plan: TensorPlan) -> Iterator[tuple[Slots, Slots, bool]]:
    yield plan.rows, plan.columns, True
    yield plan.columns, plan.rows, False


def _once(index: IntArray) -> bool:
    """Whether no number comes twice."""
    return len(np.unique(index)) == len(index)


def _add(total: FloatArray, index: IntArray, values: FloatArray, once: bool) -> None:
    """total[:, index] += values, also where an index comes several times."""
    if once:
        total[:, index] += values
    else:
        np.add.at(total.T, index, values.T)


def _minimizer(found: dict[float, FloatArray], mine: BoolArray) -> Any:
    """Per class the d that minimizes Σ_c E_c e^{2cd}: closed form for two coefficients, Newton otherwise."""
    if len(found) < 2 or min(found) > 0 or max(found) < 0:
        return 0.0
    if len(found) == 2:
        (low, e_low), (high, e_high) = sorted(found.items())
        good = mine & (e_low > _TINY) & (e_high > _TINY)
        ratio = np.divide(-low * e_low, high * e_high, out=np.ones_like(e_low), where=good)
        return np.log(ratio) / (2 * (high - low))
    both = [sum(p for c, p in found.items() if c * s > 0) for s in (1, -1)]
    good = mine & (both[0] > _TINY) & (both[1] > _TINY)
    d = np.zeros(good.shape)
    for _ in range(50):
        gradient = sum(2 * c * e * np.exp(2 * c * d) for c, e in found.items())
        curvature = sum(4 * c * c * e * np.exp(2 * c * d) for c, e in found.items())
        step = np.clip(-np.divide(gradient, curvature, out=np.zeros_like(d), where=good), -1.0, 1.0)
        d += step
        if float(np.max(np.abs(step), initial=0.0)) < 1e-12:
            break
    return d
