"""match/diff_reduction.py: a network without its dead and repeated units, and which of its units those were. No second network.

Two networks are compared unit by unit after each was reduced (canonical/reduction): what reads a unit that was split reads both
halves, and only together do they correspond to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.reduction import Removed, reduce
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, Refused
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.solve import Symmetry, find_symmetry


@dataclass(frozen=True, eq=False)
class Side:
    """One of two networks to be compared.

    Attributes:
        checkpoint, networks: what is compared: without dead and repeated units, where `kept` leaves any out.
        symmetry: of the network as it was given.
        kept: (units,) of that one, whether the unit is still there.
        stands: (units,) the unit that one is a multiple of: itself where kept, −1 where nothing depends on it.
    """

    checkpoint: Checkpoint
    networks: tuple[Network, ...]
    symmetry: Symmetry
    kept: BoolArray
    stands: IntArray

    @property
    def reduced(self) -> bool:
        return not bool(self.kept.all())

    def numbers(self) -> IntArray:
        """(units kept,) numbers of those units in the network as it was given."""
        return np.flatnonzero(self.kept)


def as_given(checkpoint: Checkpoint, networks: Sequence[Network]) -> Side:
    symmetry = find_symmetry(networks, checkpoint.aliases)
    units = np.arange(symmetry.units)
    return Side(checkpoint, tuple(networks), symmetry, np.ones(len(units), bool), units)


def without_redundancy(side: Side) -> Side:
    """The network without units that are dead, constant or repeat another.

    Raises:
        Refused, AnswerIsNo: that cannot be done, or cannot be shown to keep the function.
    """
    smaller = reduce(side.checkpoint, side.networks, writable=False)
    if not smaller.removed:
        return side
    kept, stands = side.kept.copy(), side.stands.copy()
    for unit in smaller.removed:
        number = _unit(side.symmetry, unit.tensor, unit.axis, unit.index)
        if number < 0:
            raise Refused(f"a unit of {unit.tensor} belongs to no set", code="not-reducible")
        kept[number], stands[number] = False, _stand(side.symmetry, unit)
    for _ in range(len(smaller.removed)):  # what one repeats may have gone itself, rounds later
        chained = (stands >= 0) & (stands != stands[stands])
        if not chained.any():
            break
        stands[chained] = stands[stands[chained]]
    reduced = Side(smaller.checkpoint, smaller.networks, side.symmetry, kept, stands)
    _check_numbers(reduced)
    return reduced


def reason_not_reduced(side: Side) -> str:
    """Why `without_redundancy` refuses."""
    try:
        without_redundancy(side)
    except (Refused, AnswerIsNo) as error:
        return error.what
    return ""


def _stand(symmetry: Symmetry, unit: Removed) -> int:
    if unit.rule != "duplicate" or unit.kept is None:
        return -1
    return _unit(symmetry, unit.kept[0], unit.axis, unit.kept[1])


def _unit(symmetry: Symmetry, tensor: str, axis: int, index: int | None) -> int:
    """Flat number of the unit in this slot, −1 where there is none."""
    if index is None:
        return -1
    units = [a.unit[index] for a in symmetry.actions.get(tensor, ()) if a.dim == axis and a.groups == 1]
    return int(max(units, default=-1))


def _check_numbers(side: Side) -> None:
    """The sets of the smaller network must be those of the larger one without the units that went, in their order."""
    smaller = find_symmetry(side.networks, side.checkpoint.aliases)
    renumbered = np.append(np.where(side.kept, np.cumsum(side.kept) - 1, -2), -1)
    fits = smaller.units == int(side.kept.sum()) and len(smaller.unit_sets) == len(side.symmetry.unit_sets)
    for name, actions in smaller.actions.items() if fits else ():
        before = side.symmetry.actions.get(name, ())
        fits = fits and len(actions) == len(before)
        for action, old in zip(actions, before, strict=False):
            units = renumbered[old.unit]
            fits = fits and np.array_equal(units[units != -2], action.unit)
    if not fits:
        raise Refused("its units could not be followed through", code="not-reducible")
