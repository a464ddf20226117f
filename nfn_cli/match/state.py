"""match/state.py: where a search for an element stands: our weights as moved so far, theirs, and the moves. Never gets worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfn_cli.match.comparison import cost
from nfn_cli.match.frame import Wide
from nfn_cli.symmetry.action import transformed
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray, GroupElement, from_flat, identity
from nfn_cli.symmetry.solve import Action, Symmetry

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class State:
    """Mutable: `ours` approaches `theirs`.

    Attributes:
        element: product of all moves so far.
        touching: for each unit set one action of each (tensor, axis) it is on.
        trace: Σ weight · ‖ours − theirs‖² after each accepted move.
    """

    symmetry: Symmetry
    ours: Wide
    theirs: Wide
    weights: Mapping[str, float]
    element: GroupElement = field(init=False)
    touching: list[list[Action]] = field(init=False)
    trace: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ours = dict(self.ours)
        self.element = from_flat(self.symmetry, identity(self.symmetry))
        self.trace = [cost(self.ours, self.theirs, self.weights)]
        bounds = np.array([s.start for s in self.symmetry.unit_sets] + [self.symmetry.units])
        self.touching = [[] for _ in self.symmetry.unit_sets]
        for actions in self.symmetry.actions.values():
            for dim in dict.fromkeys(action.dim for action in actions):
                along = [action for action in actions if action.dim == dim]
                # an action with a phase, or over groups, says more than the others on its axis
                action = max(along, key=lambda a: (a.groups, a.phase != 0))
                here = np.unique(action.unit[action.unit >= 0])
                for number in np.unique(np.searchsorted(bounds, here, side="right") - 1):
                    self.touching[number].append(action)

    def apply(self, move: FlatElement, only_better: bool = True) -> bool:
        """Take the move unless it makes things worse; whether it was taken."""
        names = [name for name, actions in self.symmetry.actions.items() if _moves(self.symmetry, actions, move)]
        if not names:
            return False
        moved = {name: transformed(self.ours[name], self.symmetry.actions[name], move) for name in names}
        before = cost(self.ours, self.theirs, self.weights, names)
        after = cost(moved, self.theirs, self.weights, names)
        if only_better and not after < before * (1 - 1e-12):
            return False
        self.ours.update(moved)
        self.element = from_flat(self.symmetry, move).after(self.element)
        self.trace.append(self.trace[-1] + after - before)
        return True


def _moves(symmetry: Symmetry, actions: tuple[Action, ...], move: FlatElement) -> bool:
    still = {
        "unit": move.permutation == np.arange(len(move.permutation)),
        "scale": move.scale == 1.0,
        "sign": move.sign == 1.0,
        "shift": move.shift == 0,
    }
    for action in actions:
        for kind, index in (
            ("unit", action.unit),
            ("scale", action.scale),
            ("sign", action.sign),
            ("shift", action.shift),
        ):
            if not np.append(still[kind], True)[index].all():
                return True
    return False


def by_class(symmetry: Symmetry, kind: str, values: FloatArray) -> FloatArray:
    """(classes,) -> one value for each entry of an element."""
    return values[symmetry.classes[kind]]


def single_classes(symmetry: Symmetry, kind: str, number: int, family: int) -> IntArray:
    """Class number of each unit in one family of a set."""
    size = symmetry.unit_sets[number].size
    first = symmetry.starts[kind][number] + family * size
    return symmetry.classes[kind][first : first + size]
