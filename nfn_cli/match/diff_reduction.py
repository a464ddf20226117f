"""match/diff_reduction.py: a network without its dead and repeated units, and which of its units those were. No second network.

Two networks are compared unit by unit after each was reduced (canonical/reduction): what reads a unit that was split reads both
halves, and only together do they correspond to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.canonical.reduction import Removed, reduce
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.match.frame import dead_units, without_dead
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

# Outputs that differ by less, in float64, are the same.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Side:
    """One of two networks to be compared.

    Attributes:
        checkpoint, networks: what is compared: without dead and repeated units, where `kept` leaves any out.
        symmetry: of the network as it was given.
        kept: (units,) of that one, whether the unit is still there.
        stands: (units,) the unit that one is a multiple of: itself where kept, −1 where nothing depends on it.
        idle: (units,) units that nothing depends on and that are still there, because others could not stay without them.
    """

    checkpoint: Checkpoint
    networks: tuple[Network, ...]
    symmetry: Symmetry
    kept: BoolArray
    stands: IntArray
    idle: BoolArray

    @property
    def redundant(self) -> bool:
        """Whether any unit is dead or repeats another."""
        return bool(self.idle.any()) or not bool(self.kept.all())

    def numbers(self) -> IntArray:
        """(units kept,) numbers of those units in the network as it was given."""
        return np.flatnonzero(self.kept)


def as_given(checkpoint: Checkpoint, networks: Sequence[Network]) -> Side:
    symmetry = find_symmetry(networks, checkpoint.aliases)
    units = np.arange(symmetry.units)
    return Side(checkpoint, tuple(networks), symmetry, units >= 0, units, units < 0)


def with_idle(side: Side) -> Side:
    """The network as it is, its dead units known."""
    return replace(side, idle=_idle(side.symmetry, side.checkpoint, side.networks))


def without_redundancy(side: Side) -> Side:
    """The network without units that are dead, constant or repeat another.

    Raises:
        Refused, AnswerIsNo: that cannot be done, or cannot be shown to keep the function.
    """
    smaller = reduce(side.checkpoint, side.networks, writable=False)
    if not smaller.removed:
        return with_idle(side)
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
    symmetry = find_symmetry(smaller.networks, smaller.checkpoint.aliases)
    _check_numbers(side.symmetry, kept, symmetry)
    idle = np.zeros(len(kept), bool)
    idle[kept] = _idle(symmetry, smaller.checkpoint, smaller.networks)
    return Side(smaller.checkpoint, smaller.networks, side.symmetry, kept, stands, idle)


def _idle(symmetry: Symmetry, checkpoint: Checkpoint, networks: Sequence[Network]) -> BoolArray:
    """(units,) units whose outgoing weights are all 0, if what feeds them then is without effect: a norm may read it."""
    names = dict.fromkeys(checkpoint.aliases.get(n, n) for network in networks for n in network.graph.parameter_shapes)
    tensors = {name: np.asarray(checkpoint.tensors[name]) for name in names}
    idle = dead_units(symmetry, tensors)
    if not idle.any():
        return idle
    cleared = checkpoint.with_tensors(
        without_dead(symmetry, {name: array.astype(np.float64) for name, array in tensors.items()})
    )
    try:
        changes = [relative_change(*(outputs(n, c.tensors, 0) for c in (checkpoint, cleared))) for n in networks]
    except Refused:
        return np.zeros_like(idle)
    return idle & (max(changes) <= _ROUNDING)


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


def _check_numbers(symmetry: Symmetry, kept: BoolArray, smaller: Symmetry) -> None:
    """The sets of the smaller network must be those of the larger one without the units that went, in their order."""
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -2), -1)
    fits = smaller.units == int(kept.sum()) and len(smaller.unit_sets) == len(symmetry.unit_sets)
    for name, actions in smaller.actions.items() if fits else ():
        before = symmetry.actions.get(name, ())
        fits = fits and len(actions) == len(before)
        for action, old in zip(actions, before, strict=False):
            units = renumbered[old.unit]
            fits = fits and np.array_equal(units[units != -2], action.unit)
    if not fits:
        raise Refused("its units could not be followed through", code="not-reducible")
