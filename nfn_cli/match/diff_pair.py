"""match/diff_pair.py: two networks of one architecture up to widths, laid into one that has room for both. Matches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.match.diff_layout import laid_out, places_of_units
from nfn_cli.match.diff_reduction import Side
from nfn_cli.match.diff_widths import joined_widths, lent_widths
from nfn_cli.match.equivalent import Pair, paired
from nfn_cli.match.frame import Frame, Wide, framed
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

# What the network with room for both may have for each parameter of the two, and what it may have in any case.
_ROOM = 4
_ROOM_AT_LEAST = 1 << 22


@dataclass(frozen=True, eq=False)
class WidePair:
    """Two networks in one frame of names and shapes.

    Attributes:
        symmetry: of the network that has room for both.
        names: its tensors.
        left, right: float64; where a network lacks a unit, what feeds and reads it is 0.
        numbers: for left and right, (units,) the unit's number in its set of the network as it was given, −1 where it lacks one.
        idle: for left and right, (units,) whether nothing depends on the unit.
    """

    symmetry: Symmetry
    names: tuple[str, ...]
    left: Wide
    right: Wide
    numbers: tuple[IntArray, IntArray]
    idle: tuple[BoolArray, BoolArray]

    def frames(self) -> tuple[Frame, Frame]:
        one, other = (framed(self.symmetry, tensors, self.names, dead=False) for tensors in (self.left, self.right))
        return one, other


def paired_up_to_widths(left: Side, right: Side) -> Pair:
    """The two side by side, each with its own shapes.

    Raises:
        Refused: more than widths differs (code "different-architectures"), or weights are not finite.
    """
    lent = lent_widths(right.networks, left.networks)
    return paired(left.checkpoint, left.networks, right.checkpoint, lent)


def side_by_side(left: Side, right: Side) -> WidePair:
    """Lay both into one network.

    Raises:
        Refused: more than widths differs, or units of some set can only be matched one for one (code
            "different-architectures").
    """
    pair = paired_up_to_widths(left, right)
    # the right networks under the names of the left ones
    renamed = lent_widths(left.networks, right.networks)
    joined = joined_widths(left.networks, renamed)
    _check_room(joined, (left.networks, renamed))
    solved = _Solved(left.checkpoint.aliases, [(left.networks, pair.symmetry)])
    own = pair.symmetry, solved.symmetry(renamed)
    symmetry = solved.symmetry(joined)
    shapes = {name: shape for network in joined for name, shape in network.graph.parameter_shapes.items()}
    tensors: list[Wide] = []
    numbers: list[IntArray] = []
    idle: list[BoolArray] = []
    for side, mine, given in zip((left, right), own, (pair.left, pair.right), strict=True):
        places = places_of_units(mine, symmetry)
        numbers.append(_numbers(side, places, symmetry))
        idle.append(np.zeros(symmetry.units, bool))
        idle[-1][places] = side.idle[side.kept]
        tensors.append(
            {
                name: laid_out(
                    np.asarray(given.tensors[name]),
                    name,
                    mine.actions.get(name, ()),
                    symmetry.actions.get(name, ()),
                    tuple(shapes[name]),
                    places,
                )
                for name in pair.names
            }
        )
    return WidePair(symmetry, pair.names, tensors[0], tensors[1], (numbers[0], numbers[1]), (idle[0], idle[1]))


def _check_room(joined: Sequence[Network], sides: Sequence[Sequence[Network]]) -> None:
    """Widths that differ crosswise could ask for far more memory than either network takes."""
    wanted, *given = (
        sum(prod(shape) for network in networks for shape in network.graph.parameter_shapes.values())
        for networks in (joined, *sides)
    )
    if wanted > _ROOM * sum(given) + _ROOM_AT_LEAST:
        raise Refused(
            f"a network with room for both would have {wanted:.1e} parameters, the two have {sum(given):.1e}",
            code="different-architectures",
        )


@dataclass
class _Solved:
    """Symmetries by network: where nothing is wider they are one."""

    aliases: Mapping[str, str]
    known: list[tuple[Sequence[Network], Symmetry]]

    def symmetry(self, networks: Sequence[Network]) -> Symmetry:
        for others, symmetry in self.known:
            if list(others) == list(networks):
                return symmetry
        self.known.append((networks, find_symmetry(networks, self.aliases)))
        return self.known[-1][1]


def _numbers(side: Side, places: IntArray, symmetry: Symmetry) -> IntArray:
    given = side.numbers()
    if len(given) != len(places):
        raise Refused("not the same architecture: units tie otherwise", code="different-architectures")
    starts = np.array([s.start for s in side.symmetry.unit_sets], np.int64)
    numbers = np.full(symmetry.units, -1, np.int64)
    numbers[places] = given - starts[np.searchsorted(starts, given, side="right") - 1] if len(given) else given
    return numbers
