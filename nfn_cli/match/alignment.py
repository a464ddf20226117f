"""match/alignment.py: the group element that brings one set of weights closest to another of the same architecture.

Sets of units are matched one after another, first those that most of the inputs, outputs and matched sets lead to; then
exact steps alternate until none makes the squared distance smaller (weight matching, arXiv 2209.04836, widened to signs,
scales and phase counts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.match.comparison import cost
from nfn_cli.match.frame import Frame, Wide
from nfn_cli.match.readings import LARGE, Readings
from nfn_cli.match.state import BoolArray, State
from nfn_cli.match.steps import scale_move, sign_move, unit_move
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import GroupElement, random_flat
from nfn_cli.symmetry.solve import Action, Symmetry

_SWEEPS = 100
# So many numbers tell units apart; norms of what cannot be compared yet would blur them.
_TELLING = 64


@dataclass(frozen=True, eq=False)
class Alignment:
    """The best element found.

    Attributes:
        element: from the weights of the left frame's source to the frame of the right one's.
        ours: the left weights after it, in the frame of the right ones.
        objective: Σ weight · ‖ours − theirs‖².
        trace: the objective after each step of the best run.
    """

    element: GroupElement
    ours: Wide
    objective: float
    trace: tuple[float, ...]


def aligned(
    symmetry: Symmetry,
    left: Frame,
    right: Frame,
    weights: Mapping[str, float],
    *,
    restarts: int = 0,
    seed: int = 0,
    enough: Callable[[Wide], bool] = lambda ours: False,
    gain: float = 1e-9,
    single: int = LARGE,
    scales: bool = True,
    given: Mapping[int, IntArray] | None = None,
) -> Alignment:
    """Search from where the matched sets lead, then `restarts` times from a random element.

    Args:
        weights: tensor -> weight of its squared differences.
        enough: asked with our moved weights after the first pass; stops the search.
        gain: a sweep that makes the objective smaller by less than this part of it is the last, and a set is looked at again
            only when its neighbours' moves have gained that much.
        single: products of more multiplications than this are taken in single precision.
        scales: whether scales are moved.
        given: number of a set -> (n,) our unit for each of theirs, where that is settled already for all sets that can be
            permuted; then only scales, signs and phase counts are sought.
    """
    best: State | None = None
    readings = Readings(symmetry, right.tensors, single)
    for attempt in range(restarts + 1):
        search = _Search(State(symmetry, left.tensors, right.tensors, weights), readings, scales, gain, given)
        state, order = search.state, None
        if attempt:
            state.apply(random_flat(symmetry, seed + attempt, scales=(1.0, 1.0), shifts=0), only_better=False)
        else:
            order = search.propagate()
        # a first guess may be worse than none: what is promised holds from here on
        state.trace = [sum(state.costs.values())]
        if not enough(state.ours):
            search.alternate(np.random.default_rng(seed + attempt), order)
        if best is None or state.trace[-1] < best.trace[-1]:
            best = state
        if enough(best.ours):
            break
    assert best is not None
    element = right.element.inverse().after(best.element.after(left.element))
    return Alignment(element, best.ours, cost(best.ours, right.tensors, weights), tuple(best.trace))


@dataclass
class _Search:
    """One run from one start."""

    state: State
    readings: Readings
    scales: bool
    gain: float
    given: Mapping[int, IntArray] | None

    def propagate(self) -> list[int]:
        """Match every set once, by what leads to it from fixed axes and from sets matched before it; the order of that."""
        state, sets = self.state, self.state.symmetry.unit_sets
        known = np.zeros(state.symmetry.units + 1, bool)
        known[-1] = True  # slots without a unit
        exchanged: set[int] = set()
        open_, order = set(range(len(sets))), []
        while open_:
            number = max(sorted(open_), key=lambda n: _evidence(state, n, known, exchanged))
            open_.remove(number)
            order.append(number)
            unit_set = sets[number]
            if unit_set.permutable:
                fresh = bool(unit_set.block_size) and unit_set.block_family not in exchanged
                usable = [a for a in state.touching[number] if _usable(state, a, known, fresh)]
                enough = _numbers(state, usable) >= _TELLING
                others = [a for a in state.touching[number] if a not in usable and not enough]
                given = None if self.given is None else np.argsort(_standing(state, number))[self.given[number]]
                move = unit_move(state, self.readings, number, usable, others, exchange=fresh, given=given)
                state.apply(move, only_better=False)
                if fresh:
                    exchanged.add(unit_set.block_family)
            known[unit_set.start : unit_set.start + unit_set.size] = True
            usable = [a for a in state.touching[number] if _usable(state, a, known, False)]
            for family in range(unit_set.families["sign"]):
                state.apply(sign_move(state, number, family, usable))
        return order

    def alternate(self, generator: np.random.Generator, order: Sequence[int] | None) -> None:
        """Sweeps over all sets, in random order where none is given, until nothing gets better."""
        state, count = self.state, len(self.state.symmetry.unit_sets)
        neighbours = _neighbours(state)
        news = np.full(count, np.inf)  # what the moves of neighbours gained since a set was looked at
        for _ in range(_SWEEPS):
            before = state.trace[-1]
            for number in generator.permutation(count) if order is None else order:
                if not news[number] > self.gain * state.trace[-1]:
                    continue
                start = state.trace[-1]
                self._move(number)
                news[neighbours[number]] += start - state.trace[-1]
                news[number] = 0.0
            if not state.trace[-1] < before * (1 - self.gain):
                return

    def _move(self, number: int) -> None:
        state, unit_set = self.state, self.state.symmetry.unit_sets[number]
        if unit_set.permutable and self.given is None:
            state.apply(unit_move(state, self.readings, number, state.touching[number]))
        for family in range(unit_set.families["sign"]):
            state.apply(sign_move(state, number, family))
        for family in range(unit_set.families["scale"] if self.scales else 0):
            state.apply(scale_move(state, number, family))


def _standing(state: State, number: int) -> IntArray:
    """(n,) which of our units stand where after the moves so far: those of a family of runs have moved together."""
    unit_set = state.symmetry.unit_sets[number]
    units = np.arange(unit_set.size)
    for move in state.moves:
        units = units[move.permutation[unit_set.start : unit_set.start + unit_set.size] - unit_set.start]
    return units


def _neighbours(state: State) -> list[list[int]]:
    """For each set those that share a tensor with it, itself included: its scales move after its units."""
    tensors = [{action.tensor for action in actions} for actions in state.touching]
    return [[other for other, theirs in enumerate(tensors) if mine & theirs] for mine in tensors]


def _usable(state: State, action: Action, known: BoolArray, fresh: bool) -> bool:
    """Whether slots can be compared: all other axes of the tensor are matched, and it holds no runs yet to be exchanged."""
    actions = state.symmetry.actions[action.tensor]
    if fresh and any(a.groups > 1 for a in actions):
        return False
    return all(known[a.unit].all() for a in actions if a.dim != action.dim)


def _evidence(state: State, number: int, known: BoolArray, exchanged: set[int]) -> float:
    """How many numbers a unit of the set can be told by."""
    unit_set = state.symmetry.unit_sets[number]
    fresh = bool(unit_set.block_size) and unit_set.block_family not in exchanged
    usable = [a for a in state.touching[number] if _usable(state, a, known, fresh)]
    return _numbers(state, usable)


def _numbers(state: State, usable: Sequence[Action]) -> float:
    return sum(state.ours[a.tensor].size / len(a.unit) for a in usable)
