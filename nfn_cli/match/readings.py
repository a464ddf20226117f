"""match/readings.py: what each tensor says of the units of a set: slices side by side, apart by their signs. Moves nothing.

What stays the same during a search (places, kinds, the other network's slices) is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

# From this many multiplications on products are taken in single precision: right and wrong partners are far apart, time is not.
LARGE = 1 << 28
# bytes of the other network's slices that are kept
_KEPT = 1 << 28

Slices = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class SignFamilies:
    """The sign families of a unit set: those with a sign for each unit, and signs that all units share.

    Attributes:
        own: numbers of families in which each unit has a sign of its own.
        shared: sign classes that several units of the set carry.
    """

    own: tuple[int, ...]
    shared: tuple[int, ...]


def sign_families(symmetry: Symmetry, number: int) -> SignFamilies:
    unit_set, start = symmetry.unit_sets[number], symmetry.starts["sign"][number]
    own: list[int] = []
    shared: list[int] = []
    for family in range(unit_set.families["sign"]):
        first = start + family * unit_set.size
        classes = np.unique(symmetry.classes["sign"][first : first + unit_set.size])
        if len(classes) == unit_set.size and unit_set.permutable:
            own.append(family)
        else:
            shared.extend(int(c) for c in classes)
    return SignFamilies(tuple(own), tuple(dict.fromkeys(shared)))


@dataclass(frozen=True)
class Part:
    """Scores of one kind: all products whose sign changes with the same own signs, shared signs and phase parity."""

    own: frozenset[int]
    shared: frozenset[int]
    parity: bool


@dataclass(frozen=True, eq=False)
class Place:
    """Where the units of a set are on one axis of a tensor.

    Attributes:
        slots: (n, slots a unit), in the order of the units, equal labels in one column.
        kinds: kind -> the columns of `slots` that move alike.
    """

    slots: IntArray
    kinds: dict[Part, IntArray]

    def of(self, rows: Slices, columns: IntArray) -> Slices:
        """(slots of the axis, K) -> (n, columns · K)."""
        wanted = self.slots[:, columns]
        if wanted.shape == (len(rows), 1) and np.array_equal(wanted[:, 0], np.arange(len(rows))):
            return rows
        return np.asarray(rows[wanted].reshape(len(wanted), -1))


@dataclass
class Readings:
    """Reads the tensors of a search.

    Attributes:
        theirs: the weights to be approached; they do not change.
        single: products of more multiplications than this are taken in single precision.
    """

    symmetry: Symmetry
    theirs: Wide
    single: int = LARGE
    _families: dict[int, SignFamilies] = field(init=False, default_factory=dict)
    _places: dict[tuple[int, int], Place] = field(init=False, default_factory=dict)
    _kept: dict[tuple[int, int, Part], Slices] = field(init=False, default_factory=dict)
    _bytes: int = field(init=False, default=0)

    def families(self, number: int) -> SignFamilies:
        if number not in self._families:
            self._families[number] = sign_families(self.symmetry, number)
        return self._families[number]

    def place(self, number: int, action: Action) -> Place:
        key = (number, id(action))  # actions live as long as the symmetry
        if key not in self._places:
            slots = slots_of(action, self.symmetry.unit_sets[number])
            self._places[key] = Place(slots, _kinds(self.symmetry, number, action, slots, self.families(number)))
        return self._places[key]

    def slices(self, ours: Wide, number: int, action: Action) -> Iterator[tuple[Part, Slices, Slices]]:
        """For each kind our and their slices, (n, K) each."""
        place = self.place(number, action)
        array = ours[action.tensor]
        if array.size * len(place.slots) > self.single:
            array = array.astype(np.float32)
        rows = rows_of(array, action)
        for part, columns in place.kinds.items():
            yield part, place.of(rows, columns), self._their_slices(number, action, part, array.dtype)

    def _their_slices(self, number: int, action: Action, part: Part, dtype: np.dtype[Any]) -> Slices:
        key = (number, id(action), part)
        if key in self._kept and self._kept[key].dtype == dtype:
            return self._kept[key]
        place = self.place(number, action)
        made = place.of(rows_of(self.theirs[action.tensor].astype(dtype, copy=False), action), place.kinds[part])
        if self._bytes + made.nbytes <= _KEPT:
            self._kept[key], self._bytes = made, self._bytes + made.nbytes
        return made


def slots_of(action: Action, unit_set: UnitSet) -> IntArray:
    """(n, slots a unit) positions on the action's axis, in the order of the units, equal labels in one column."""
    mine = np.flatnonzero((action.unit >= unit_set.start) & (action.unit < unit_set.start + unit_set.size))
    order = np.lexsort((action.label[mine], action.unit[mine]))
    return mine[order].reshape(unit_set.size, -1)


def norms(slices: FloatArray) -> FloatArray:
    """(n, L, K) -> (n, 3L): what no permutation and no sign of the other axes moves, each as noisy as one entry."""
    size = max(1, slices.shape[2])
    absolute = np.abs(slices)
    each = (
        np.sqrt((slices**2).sum(axis=2)),
        absolute.sum(axis=2) / np.sqrt(size),
        absolute.max(axis=2, initial=0.0),
    )
    return np.concatenate(each, axis=1)


def _kinds(
    symmetry: Symmetry, number: int, action: Action, slots: IntArray, families: SignFamilies
) -> dict[Part, IntArray]:
    """Which columns of `slots` move alike. Units of one set carry signs alike, so the first speaks for all."""
    unit_set, start = symmetry.unit_sets[number], symmetry.starts["sign"][number]
    signed = [a for a in symmetry.actions[action.tensor] if a.dim == action.dim and a.signed]
    kinds: dict[Part, list[int]] = {}
    for column, slot in enumerate(slots[0]):
        own: set[int] = set()
        shared: set[int] = set()
        parity = False
        for other in signed:
            for entry in other.sign[:, slot]:
                if entry < 0:
                    continue
                family = (int(entry) - start) // max(1, unit_set.size)
                if family in families.own:
                    own ^= {family}
                else:
                    shared ^= {int(symmetry.classes["sign"][entry])} & set(families.shared)
            parity ^= bool(other.shift[slot] >= 0)
        kinds.setdefault(Part(frozenset(own), frozenset(shared), parity), []).append(column)
    return {part: np.array(columns) for part, columns in kinds.items()}
