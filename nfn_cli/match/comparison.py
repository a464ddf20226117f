"""match/comparison.py: how far two sets of weights in one frame are apart: entry by entry, and as a whole. Moves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

# An entry counts as this part of its tensor's root mean square at least: noise does not shrink with the entry.
FLOOR = 0.1
# Units all of whose weights are smaller than this beside others' decide nothing, not even who they are.
_SEEN = 1e-2
# A unit's weights count by their own size down to this part of their tensor's.
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of weights after alignment.

    Attributes:
        residual: largest difference of one entry, over the entry's size plus a tenth of its tensor's root mean square, or of
            what its units have of that where they are compared one by one.
        tensor: where that is.
        distance: Euclidean distance over the norm of the second, where each tensor counts by its number of entries.
    """

    residual: float
    tensor: str
    distance: float


def compared(symmetry: Symmetry, left: Wide, right: Wide, *, by_unit: bool = False) -> Comparison:
    """Both in one frame; the group acts on single entries, so each of them must agree.

    Args:
        by_unit: measure small weights of a unit by the unit's: right where rounding is relative, as it is in float32, and
            too strict where noise is alike for all entries.
    """
    worst, where = 0.0, ""
    shares = _shares_of_units(symmetry, right) if by_unit else {}
    for name, there in right.items():
        here = left[name]
        difference = np.abs(here - there)
        # a phase count rounds as its shift does
        floor = np.maximum(FLOOR * _size(there) * shares.get(name, np.ones(())), _phase(symmetry, name))
        scale = np.maximum(np.abs(here), np.abs(there)) + floor
        share = np.divide(difference, scale, out=np.zeros_like(difference), where=difference > 0)
        largest = float(share.max(initial=0.0))
        if largest > worst:
            worst, where = largest, name
    return Comparison(worst, where, distance(symmetry, left, right))


def _shares_of_units(symmetry: Symmetry, tensors: Wide) -> dict[str, FloatArray]:
    """Tensor -> by what its root mean square is to be multiplied for each entry: the product of its units' shares of it.

    Only for units that stand out somewhere, and for tensors that the group moves by factors alone.
    """
    largest = np.zeros(symmetry.units)
    parts: dict[str, list[tuple[Action, FloatArray]]] = {}
    for name, actions in symmetry.actions.items():
        size = _size(tensors[name]) if name in tensors else 0.0
        for action in {action.dim: action for action in actions}.values() if size else ():
            part = np.sqrt(np.square(rows_of(tensors[name], action)).mean(axis=1)) / size
            use = action.unit >= 0
            np.maximum.at(largest, action.unit[use], part[use])
            by_factors = all(a.groups == 1 and a.exponent != 2 and not (a.shift >= 0).any() for a in actions)
            if by_factors:
                parts.setdefault(name, []).append((action, part))
    seen = np.append(largest >= _SEEN, False)
    found: dict[str, FloatArray] = {}
    for name, along in parts.items():
        share = np.ones(())
        for action, part in along:
            factor = np.where(seen[action.unit], part.clip(_LEAST, 1.0), 1.0)
            share = share * factor.reshape([-1 if axis == action.dim else 1 for axis in range(tensors[name].ndim)])
        found[name] = np.maximum(share, _LEAST)
    return found


def distance(symmetry: Symmetry, left: Wide, right: Wide) -> float:
    """See `Comparison`."""
    square, entries = 0.0, 0
    for name, there in right.items():
        size = max(_size(there), _phase(symmetry, name)) ** 2
        apart = squared_distance(left[name], there)
        square += apart / (size or float((left[name] ** 2).mean()) or 1.0) if apart else 0.0
        entries += there.size
    return float(np.sqrt(square / max(1, entries)))


def _size(array: FloatArray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(array**2))) if array.size else 0.0


def _phase(symmetry: Symmetry, name: str) -> float:
    return max((abs(action.phase) for action in symmetry.actions.get(name, ())), default=0.0)


def even_weights(left: Wide, right: Wide) -> dict[str, float]:
    """Tensor -> weight of its squared differences that gives every tensor root mean square 1: rounding is relative."""
    weights = {}
    for name in right:
        mean = 0.5 * float(np.mean(left[name] ** 2) + np.mean(right[name] ** 2)) if right[name].size else 0.0
        weights[name] = 1.0 / mean if mean > 0 else 1.0
    return weights


def cost(left: Wide, right: Wide, weights: Mapping[str, float], names: Sequence[str] | None = None) -> float:
    """Σ weight · ‖left − right‖² over the named tensors (all)."""
    wanted = right if names is None else names
    return sum(weights[name] * squared_distance(left[name], right[name]) for name in wanted)


def squared_distance(left: FloatArray, right: FloatArray) -> float:
    difference = (left - right).ravel(order="K")
    return float(difference @ difference)
