"""match/diff_units.py: what became of each unit, from who was matched with whom and how far they are apart. No tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nfn_cli.match.diff_distance import Distances
from nfn_cli.match.diff_model import SetDifference, UnitChange
from nfn_cli.match.diff_reduction import Side
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.unit_set import UnitSet

Units = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Matched:
    """Who stands for whom, unit by unit of the network that has room for both.

    Attributes:
        left, right: (units,) number in its set as it was given, −1 where that network has none.
        near: for left and right, (units,) the unit that one nearly repeats and was matched with, −1 for all else.
        same: (units,) whether what feeds the two agrees.
        distances: between them.
    """

    left: IntArray
    right: IntArray
    near: tuple[IntArray, IntArray]
    same: BoolArray
    distances: Distances


def set_difference(number: int, wide: UnitSet, matched: Matched, sides: tuple[Side, Side]) -> SetDifference:
    """The records of one set, in the order of the left network, what only the right one has last."""
    span = slice(wide.start, wide.start + wide.size)
    feeding, reading = matched.distances.feeding, matched.distances.reading
    near, far = feeding.distance()[span].tolist(), reading.distance()[span].tolist()
    members = [
        _with_near(_members(side, number, numbers[span]), near[span], wide.start)
        for side, numbers, near in zip(sides, (matched.left, matched.right), matched.near, strict=True)
    ]
    found = [
        _pair(ours, theirs, word, distance, outgoing)
        for ours, theirs, word, distance, outgoing in zip(
            *members, _statuses(matched, sides, number, span), near, far, strict=True
        )
        if ours and theirs
    ]
    removed = [ours for ours, theirs in zip(*members, strict=True) if ours and not theirs]
    added = [theirs for ours, theirs in zip(*members, strict=True) if theirs and not ours]
    found += _without_counterpart(removed, added, *(_dead(side, number) for side in sides))
    found.sort(key=lambda unit: (not unit.units, unit.units, unit.other_units))
    both = (matched.left[span] >= 0) & (matched.right[span] >= 0)
    both &= (matched.near[0][span] < 0) & (matched.near[1][span] < 0)
    apart, size = feeding.difference[span][both].sum(), feeding.size[span][both].sum()
    distance = None if not both.any() else float(np.sqrt(2 * apart / size)) if size else 0.0
    sizes = sides[0].symmetry.unit_sets[number].size, sides[1].symmetry.unit_sets[number].size
    return SetDifference(wide.name, sizes, distance, tuple(found))


def _statuses(matched: Matched, sides: tuple[Side, Side], number: int, span: slice) -> list[str]:
    """What a pair is said to be where it is one unit against one."""
    left, right = (
        side.idle[side.symmetry.unit_sets[number].start + numbers[span]] & (numbers[span] >= 0)
        for side, numbers in zip(sides, (matched.left, matched.right), strict=True)
    )
    words = np.where(matched.same[span], "same", "changed")
    words = np.where(left, np.where(right, "dead", "revived"), np.where(right, "died", words))
    return [str(word) for word in words]


def _pair(ours: Units, theirs: Units, status: str, distance: float, outgoing: float) -> UnitChange:
    moved = ours[0] != theirs[0]
    if status in ("died", "revived", "dead"):
        return UnitChange(ours, theirs, status, moved, None, None)
    if len(theirs) != len(ours):
        status = "split" if len(theirs) > len(ours) else "merged"
    return UnitChange(ours, theirs, status, moved, distance, outgoing)


def _without_counterpart(
    removed: list[Units], added: list[Units], dead: list[Units], other_dead: list[Units]
) -> list[UnitChange]:
    """Dead units stand for dead ones first, then for what only the other network has."""
    found = []
    for status, ours, theirs in (("dead", dead, other_dead), ("died", removed, other_dead), ("revived", dead, added)):
        for pair in _by_place(ours, theirs):
            ours.remove(pair[0])
            theirs.remove(pair[1])
            found.append(UnitChange(*pair, status, pair[0][0] != pair[1][0], None, None))
    found += [UnitChange(units, (), "removed", False, None, None) for units in (*removed, *dead)]
    found += [UnitChange((), units, "added", False, None, None) for units in (*added, *other_dead)]
    return found


def _by_place(ours: list[Units], theirs: list[Units]) -> list[tuple[Units, Units]]:
    """As many pairs as there can be: those at one place, then the others in order."""
    at = {units[0]: units for units in theirs}
    pairs = [(units, at[units[0]]) for units in ours if units[0] in at]
    taken = {units[0] for units, _ in pairs}
    rest = [[units for units in side if units[0] not in taken] for side in (ours, theirs)]
    return [*pairs, *zip(*rest, strict=False)]


def _members(side: Side, number: int, units: IntArray) -> list[Units]:
    """Each unit with those that repeat it, by number in the set; none for −1."""
    stands = _stands(side, number)
    repeats: dict[int, list[int]] = {}
    for unit in np.flatnonzero((stands >= 0) & (stands != np.arange(len(stands)))).tolist():
        repeats.setdefault(int(stands[unit]), []).append(unit)
    return [(unit, *repeats.get(unit, ())) if unit >= 0 else () for unit in units.tolist()]


def _with_near(members: list[Units], near: IntArray, start: int) -> list[Units]:
    """What nearly repeats another stands beside it, not alone."""
    out = list(members)
    for place, other in enumerate(near.tolist()):
        if other >= 0:
            out[other - start], out[place] = (*out[other - start], *members[place]), ()
    return out


def _dead(side: Side, number: int) -> list[Units]:
    return [(unit,) for unit in np.flatnonzero(_stands(side, number) < 0).tolist()]


def _stands(side: Side, number: int) -> IntArray:
    """(n,) for each unit of the set the number of the one it stands for, negative for none."""
    unit_set = side.symmetry.unit_sets[number]
    found = side.stands[unit_set.start : unit_set.start + unit_set.size]
    return np.where(found < 0, -1, found - unit_set.start)
