"""match/diff_distance.py: how far two sets of weights in one frame are apart: unit by unit, tensor by tensor. Moves nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nfn_cli.match.comparison import FLOOR
from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.solve import Action, Symmetry


@dataclass(eq=False)
class Apart:
    """Sums of squares over some slots, by number: of differences, and of both sides."""

    difference: FloatArray
    size: FloatArray

    @classmethod
    def nothing(cls, count: int) -> Apart:
        return cls(np.zeros(count), np.zeros(count))

    def distance(self) -> FloatArray:
        """Euclidean distance over the root mean square of both norms: 0 to 2."""
        ratio = np.divide(2 * self.difference, self.size, out=np.zeros_like(self.size), where=self.size > 0)
        return np.sqrt(ratio)


@dataclass(frozen=True, eq=False)
class Distances:
    """Of two aligned networks, over the units that both have.

    Attributes:
        feeding, reading: by unit: what makes it (a variance that its norm settles left out), what reads it.
        residual: by unit: largest share of one entry of what makes it.
        by_tensor: name -> (distance, residual).
        overall: of all tensors, each counted by its entries.
    """

    feeding: Apart
    reading: Apart
    residual: FloatArray
    by_tensor: dict[str, tuple[float, float]] = field(default_factory=dict)
    overall: float = 0.0


def distances(symmetry: Symmetry, ours: Wide, theirs: Wide, shared: BoolArray) -> Distances:
    """Compare tensor by tensor.

    Args:
        ours, theirs: in one frame.
        shared: (units,) units that both networks have; slots of others are left out.
    """
    units = symmetry.units
    feeding, reading, residual = Apart.nothing(units), Apart.nothing(units), np.zeros(units)
    by_tensor: dict[str, tuple[float, float]] = {}
    square, entries = 0.0, 0
    for name, there in theirs.items():
        actions = symmetry.actions.get(name, ())
        here = ours[name]
        counted = there.size
        for action in actions:
            here, there = (without_slots(array, action, shared) for array in (here, there))
        difference = here - there
        sums = [float(np.square(array).sum()) for array in (difference, here, there)]
        share = _shares(difference, here, there, sums[2], actions)
        distance = float(np.sqrt(2 * sums[0] / (sums[1] + sums[2]))) if sums[0] else 0.0
        by_tensor[name] = distance, float(share.max(initial=0.0))
        square, entries = square + distance**2 * counted, entries + counted
        for action in _one_an_axis(actions):
            use = action.unit >= 0
            at = action.unit[use]
            into = reading if action.exponent < 0 else feeding
            np.add.at(into.difference, at, np.square(rows_of(difference, action)).sum(axis=1)[use])
            both = np.square(rows_of(here, action)).sum(axis=1) + np.square(rows_of(there, action)).sum(axis=1)
            np.add.at(into.size, at, both[use])
            if action.exponent >= 0:
                np.maximum.at(residual, at, rows_of(share, action).max(axis=1, initial=0.0)[use])
    return Distances(feeding, reading, residual, by_tensor, float(np.sqrt(square / max(1, entries))))


def _shares(
    difference: FloatArray, here: FloatArray, there: FloatArray, square: float, actions: tuple[Action, ...]
) -> FloatArray:
    """Each entry's difference over its size plus a part of the tensor's; a phase count rounds as its shift does."""
    phase: float = max((abs(action.phase) for action in actions), default=0.0)
    typical = np.sqrt(square / max(1, int(np.count_nonzero(there))))
    scale = np.maximum(np.abs(here), np.abs(there)) + max(FLOOR * typical, phase)
    shares: FloatArray = np.divide(np.abs(difference), scale, out=np.zeros_like(difference), where=difference != 0)
    return shares


def _one_an_axis(actions: tuple[Action, ...]) -> list[Action]:
    """One action for each axis, the one with groups; a variance whose scale its norm settles is always where it is."""
    chosen: dict[int, Action] = {}
    for action in actions:
        if action.exponent == 2 and action.scaled:
            continue
        known = chosen.get(action.dim)
        if known is None or action.groups > known.groups or (known.exponent == 0 and action.exponent):
            chosen[action.dim] = action
    return list(chosen.values())


def without_slots(array: FloatArray, action: Action, shared: BoolArray) -> FloatArray:
    """The array with 0 in slots of units that are not shared; slots without units stay."""
    keep = np.append(shared, True)[action.unit]
    if keep.all():
        return array
    if action.groups > 1:
        mask = np.repeat(keep.reshape(action.groups, -1), array.shape[0] // action.groups, axis=0)
        return np.asarray(array * mask.reshape(*mask.shape, *(1,) * (array.ndim - 2)))
    return np.asarray(array * keep.reshape([-1 if axis == action.dim else 1 for axis in range(array.ndim)]))
