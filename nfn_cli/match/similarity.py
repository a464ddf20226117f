"""match/similarity.py: how well every unit of a set of one network would stand for every unit of the other. Moves nothing.

A score is ⟨ours, theirs⟩ summed over what the two units touch, kept apart by how signs and phase counts of the unit enter
it, so that the best signed score of a pair is a maximum over a few sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

# From here on products are taken in single precision: right and wrong partners are far apart, time is not.
_LARGE = 1 << 28
# More signs a unit than this are not tried in all combinations.
_COMBINED = 7


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


@dataclass
class Similarity:
    """Scores of all pairs (p, q): our unit p standing for their unit q.

    Attributes:
        parts: kind -> (n, n).
        phases: (phase unit, weight, own signs, ours (n,), theirs (n,)) of each bias that a phase count moves.
    """

    families: SignFamilies
    size: int
    parts: dict[Part, FloatArray] = field(default_factory=dict)
    phases: list[tuple[float, float, frozenset[int], FloatArray, FloatArray]] = field(default_factory=list)

    def add(self, part: Part, ours: FloatArray, theirs: FloatArray, weight: float) -> None:
        """ours, theirs: (n, K)."""
        if ours.size * len(ours) > _LARGE:
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        product = weight * (ours @ theirs.T).astype(np.float64)
        self.parts[part] = self.parts[part] + product if part in self.parts else product

    @property
    def shifts(self) -> tuple[int, ...]:
        return (0, 1, -1) if self.phases else (0,)

    def under_shared(self) -> Iterator[tuple[frozenset[int], dict[Part, FloatArray]]]:
        """Every choice of shared signs to flip that makes a difference, and the parts under it."""
        present = sorted(frozenset().union(*(part.shared for part in self.parts)))[:3]
        for choice in itertools.product((False, True), repeat=len(present)):
            flipped = frozenset(c for c, flip in zip(present, choice, strict=True) if flip)
            merged: dict[Part, FloatArray] = {}
            for part, matrix in self.parts.items():
                key = Part(part.own, frozenset(), part.parity)
                signed = -matrix if len(part.shared & flipped) % 2 else matrix
                merged[key] = merged[key] + signed if key in merged else signed
            yield flipped, merged

    def best(self, parts: Mapping[Part, FloatArray]) -> FloatArray:
        """(n, n) the score of each pair under its own best signs and phase count."""
        if self._independent(parts):
            total = np.zeros((self.size, self.size))
            for part, matrix in parts.items():
                total += np.abs(matrix) if part.own else matrix
            return total
        found = None
        for signs, shift in self._choices():
            value = self._value(parts, signs, shift, None)
            found = value if found is None else np.maximum(found, value)
        return found if found is not None else np.zeros((self.size, self.size))

    def best_signs(self, parts: Mapping[Part, FloatArray], chosen: IntArray) -> tuple[FloatArray, IntArray]:
        """For pairs (chosen[q], q): (own families, n) signs and (n,) phase counts that give the best score."""
        own = self.families.own
        signs, shifts = np.ones((len(own), self.size)), np.zeros(self.size, np.int64)
        at = (chosen, np.arange(self.size))
        if self._independent(parts):
            for part, matrix in parts.items():
                if part.own:
                    signs[own.index(next(iter(part.own)))] = np.where(matrix[at] < 0, -1.0, 1.0)
            return signs, shifts
        best = np.full(self.size, -np.inf)
        for choice, shift in self._choices():
            value = self._value(parts, choice, shift, chosen)
            better = value > best + 1e-12 * np.abs(value)
            best = np.where(better, value, best)
            shifts[better] = shift
            for row, family in enumerate(own):
                signs[row, better] = -1.0 if family in choice else 1.0
        return signs, shifts

    def _independent(self, parts: Mapping[Part, FloatArray]) -> bool:
        return not self.phases and (all(len(part.own) <= 1 for part in parts) or len(self.families.own) > _COMBINED)

    def _choices(self) -> Iterator[tuple[frozenset[int], int]]:
        for shift in self.shifts:
            for flips in itertools.product((False, True), repeat=len(self.families.own)):
                yield frozenset(f for f, flip in zip(self.families.own, flips, strict=True) if flip), shift

    def _value(
        self, parts: Mapping[Part, FloatArray], flipped: frozenset[int], shift: int, chosen: IntArray | None
    ) -> FloatArray:
        """(n, n), or (n,) for chosen pairs."""
        shape = (self.size, self.size) if chosen is None else (self.size,)
        total = np.zeros(shape)
        for part, matrix in parts.items():
            taken = matrix if chosen is None else matrix[chosen, np.arange(self.size)]
            odd = len(part.own & flipped) + (shift if part.parity else 0)
            total += -taken if odd % 2 else taken
        for phase, weight, own, ours, theirs in self.phases if shift else ():
            sign = -1.0 if len(own & flipped) % 2 else 1.0
            amount = shift * phase
            mine = sign * (ours[:, None] if chosen is None else ours[chosen])
            total += weight * (amount * ((theirs[None, :] if chosen is None else theirs) - mine) - 0.5 * amount**2)
        return total


def similarity(
    symmetry: Symmetry,
    number: int,
    ours: Wide,
    theirs: Wide,
    weights: Mapping[str, float],
    usable: Sequence[Action],
    others: Sequence[Action] = (),
) -> Similarity:
    """Scores of the pairs of set `number`.

    Args:
        ours, theirs: weights in one frame; ours already moved on the axes that `usable` contracts.
        usable: one action for each (tensor, axis) of the set that may be compared slot by slot.
        others: those of which only norms can be compared, because their other axes are not matched yet.
    """
    unit_set = symmetry.unit_sets[number]
    found = Similarity(sign_families(symmetry, number), unit_set.size)
    for action in usable:
        slots = slots_of(action, unit_set)
        mine, there = (rows_of(tensors[action.tensor], action) for tensors in (ours, theirs))
        kinds = _kinds(symmetry, number, action, slots, found.families)
        for part, labels in kinds.items():
            shape = (unit_set.size, -1)
            weight = weights[action.tensor]
            x, y = (rows[slots[:, labels]].reshape(shape) for rows in (mine, there))
            found.add(part, x, y, weight)
            if action.phase and unit_set.families["shift"] == 1 and x.shape[1] == 1:
                found.phases.append((action.phase, weight, part.own, x[:, 0], y[:, 0]))
    for action in others:
        slots = slots_of(action, unit_set)
        norms = [_norms(rows_of(tensors[action.tensor], action)[slots]) for tensors in (ours, theirs)]
        found.add(Part(frozenset(), frozenset(), False), norms[0], norms[1], weights[action.tensor])
    return found


def slots_of(action: Action, unit_set: UnitSet) -> IntArray:
    """(n, slots a unit) positions on the action's axis, in the order of the units, equal labels in one column."""
    mine = np.flatnonzero((action.unit >= unit_set.start) & (action.unit < unit_set.start + unit_set.size))
    order = np.lexsort((action.label[mine], action.unit[mine]))
    return mine[order].reshape(unit_set.size, -1)


def _norms(slices: FloatArray) -> FloatArray:
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
