"""match/state.py: where a search for an element stands: our weights as moved so far, theirs, and the moves. Never gets worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfn_cli.match.comparison import squared_distance
from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.action import transformed
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray, GroupElement, from_flat, identity
from nfn_cli.symmetry.solve import Action, Symmetry

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class State:
    """Mutable: `ours` approaches `theirs`.

    Attributes:
        moves: all moves so far, in order.
        touching: for each unit set one action of each (tensor, axis) it is on.
        costs: tensor -> weight · ‖ours − theirs‖² as it is now.
        trace: Σ weight · ‖ours − theirs‖² after each accepted move.
    """

    symmetry: Symmetry
    ours: Wide
    theirs: Wide
    weights: Mapping[str, float]
    moves: list[FlatElement] = field(init=False, default_factory=list)
    touching: list[list[Action]] = field(init=False)
    costs: dict[str, float] = field(init=False)
    trace: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ours = dict(self.ours)
        self.costs = {name: self._cost(name, self.ours[name]) for name in self.theirs}
        self.trace = [sum(self.costs.values())]
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
        self._names = tuple(self.symmetry.actions)
        self._users = {kind: self._users_of(kind) for kind in ("unit", "scale", "sign", "shift")}
        self._sums: dict[tuple[str, int], tuple[FloatArray, FloatArray]] = {}

    @property
    def element(self) -> GroupElement:
        """Product of all moves so far."""
        product = from_flat(self.symmetry, identity(self.symmetry))
        for move in self.moves:
            product = from_flat(self.symmetry, move).after(product)
        return product

    def apply(self, move: FlatElement, only_better: bool = True) -> bool:
        """Take the move unless it makes things worse; whether it was taken."""
        names = self.moved_by(move)
        if not names:
            return False
        moved = {name: transformed(self.ours[name], self.symmetry.actions[name], move) for name in names}
        costs = {name: self._cost(name, moved[name]) for name in names}
        before, after = sum(self.costs[name] for name in names), sum(costs.values())
        if only_better and not after < before * (1 - 1e-12):
            return False
        self.ours.update(moved)
        self._sums = {key: sums for key, sums in self._sums.items() if key[0] not in moved}
        self.costs.update(costs)
        self.moves.append(move)
        self.trace.append(sum(self.costs.values()))
        return True

    def moved_by(self, move: FlatElement) -> list[str]:
        """Tensors that the move changes."""
        changed = {
            "unit": move.permutation != np.arange(len(move.permutation)),
            "scale": move.scale != 1.0,
            "sign": move.sign != 1.0,
            "shift": move.shift != 0,
        }
        touched = np.zeros(len(self._names), bool)
        for kind, entries in changed.items():
            if entries.any():
                entry, tensor = self._users[kind]
                touched[tensor[entries[entry]]] = True
        return [self._names[number] for number in np.flatnonzero(touched)]

    def sums(self, action: Action) -> tuple[FloatArray, FloatArray]:
        """For each slot of the action's axis weight · ⟨ours, theirs⟩ and weight · ‖ours‖², as they are now."""
        key = action.tensor, action.dim
        if key not in self._sums:
            ours, theirs = (rows_of(side[action.tensor], action) for side in (self.ours, self.theirs))
            weight = self.weights[action.tensor]
            products, squares = (np.einsum("sk,sk->s", ours, other) for other in (theirs, ours))
            self._sums[key] = weight * products, weight * squares
        return self._sums[key]

    def _users_of(self, kind: str) -> tuple[IntArray, IntArray]:
        """Entries of an element's vector, and beside each a tensor that takes it."""
        pairs = [np.zeros((0, 2), np.int64)]
        for number, name in enumerate(self._names):
            for action in self.symmetry.actions[name]:
                entries = np.unique(getattr(action, kind))
                entries = entries[entries >= 0]
                pairs.append(np.stack([entries, np.full(len(entries), number)], axis=1))
        entry, tensor = np.concatenate(pairs).T
        return entry, tensor

    def _cost(self, name: str, ours: FloatArray) -> float:
        weight = self.weights[name]
        return weight * squared_distance(ours, self.theirs[name]) if weight else 0.0


def by_class(symmetry: Symmetry, kind: str, values: FloatArray) -> FloatArray:
    """(classes,) -> one value for each entry of an element."""
    return values[symmetry.classes[kind]]


def single_classes(symmetry: Symmetry, kind: str, number: int, family: int) -> IntArray:
    """Class number of each unit in one family of a set."""
    size = symmetry.unit_sets[number].size
    first = symmetry.starts[kind][number] + family * size
    return symmetry.classes[kind][first : first + size]
