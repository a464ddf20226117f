"""match/alignment.py: the group element that brings one set of weights closest to another of the same architecture.

Sets of units are matched one after another, first those that most of the inputs, outputs and matched sets lead to; then
exact steps alternate until none makes the squared distance smaller (weight matching, arXiv 2209.04836, widened to signs,
scales and phase counts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nfn_cli.match.comparison import cost
from nfn_cli.match.frame import Frame, Wide
from nfn_cli.match.state import BoolArray, State
from nfn_cli.match.steps import scale_move, sign_move, unit_move
from nfn_cli.symmetry.element import GroupElement, random_flat
from nfn_cli.symmetry.solve import Action, Symmetry

_SWEEPS = 100


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
) -> Alignment:
    """Search from where the matched sets lead, then `restarts` times from a random element.

    Args:
        weights: tensor -> weight of its squared differences.
        enough: asked with our moved weights after the first pass; stops the search.
        gain: a sweep that makes the objective smaller by less than this part of it is the last.
    """
    best: State | None = None
    for attempt in range(restarts + 1):
        state = State(symmetry, left.tensors, right.tensors, weights)
        if attempt:
            state.apply(random_flat(symmetry, seed + attempt, scales=(1.0, 1.0), shifts=0), only_better=False)
        else:
            _propagate(state)
        # a first guess may be worse than none: what is promised holds from here on
        state.trace = [cost(state.ours, state.theirs, weights)]
        if not enough(state.ours):
            _alternate(state, seed + attempt, gain)
        if best is None or state.trace[-1] < best.trace[-1]:
            best = state
        if enough(best.ours):
            break
    assert best is not None
    element = right.element.inverse().after(best.element.after(left.element))
    return Alignment(element, best.ours, cost(best.ours, right.tensors, weights), tuple(best.trace))


def _propagate(state: State) -> None:
    """Match every set once, by what leads to it from fixed axes and from sets that were matched before it."""
    sets = state.symmetry.unit_sets
    known = np.zeros(state.symmetry.units + 1, bool)
    known[-1] = True  # slots without a unit
    exchanged: set[int] = set()
    open_ = set(range(len(sets)))
    while open_:
        number = max(sorted(open_), key=lambda n: _evidence(state, n, known, exchanged))
        open_.remove(number)
        unit_set = sets[number]
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        if unit_set.permutable:
            fresh = bool(unit_set.block_size) and unit_set.block_family not in exchanged
            usable = [a for a in state.touching[number] if _usable(state, a, known, fresh)]
            others = [a for a in state.touching[number] if a not in usable]
            state.apply(unit_move(state, number, usable, others, exchange=fresh), only_better=False)
            if fresh:
                exchanged.add(unit_set.block_family)
        known[span] = True
        usable = [a for a in state.touching[number] if _usable(state, a, known, False)]
        for family in range(unit_set.families["sign"]):
            state.apply(sign_move(state, number, family, usable))


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
    return sum(state.ours[a.tensor].size / len(a.unit) for a in usable)


def _alternate(state: State, seed: int, gain: float) -> None:
    """Sweeps over all sets in random order until nothing gets better."""
    symmetry, generator = state.symmetry, np.random.default_rng(seed)
    for _ in range(_SWEEPS):
        before = state.trace[-1]
        for number in generator.permutation(len(symmetry.unit_sets)):
            unit_set = symmetry.unit_sets[number]
            if unit_set.permutable:
                state.apply(unit_move(state, number, state.touching[number]))
            for family in range(unit_set.families["sign"]):
                state.apply(sign_move(state, number, family))
            for family in range(unit_set.families["scale"]):
                state.apply(scale_move(state, number, family))
        if not state.trace[-1] < before * (1 - gain):
            return
