"""match/similarity.py: how well every unit of a set of one network would stand for every unit of the other. Moves nothing.

A score is ⟨ours, theirs⟩ summed over what the two units touch, kept apart by how signs and phase counts of the unit enter
it, so that the best signed score of a pair is a maximum over a few sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.match.readings import Part, Readings, SignFamilies, Slices, norms
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action

# More signs a unit than this are not tried in all combinations.
_COMBINED = 7

AnyFloat = np.ndarray[Any, np.dtype[np.floating[Any]]]


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
    phases: list[tuple[float, float, frozenset[int], AnyFloat, AnyFloat]] = field(default_factory=list)

    def add(self, part: Part, ours: Slices, theirs: Slices, weight: float) -> None:
        """ours, theirs: (n, K)."""
        product = (ours if weight == 1.0 else ours * np.asarray(weight, ours.dtype)) @ theirs.T
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
            each = [np.abs(matrix) if part.own else matrix for part, matrix in parts.items()]
            return sum(each[1:], each[0]) if each else np.zeros((self.size, self.size))
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
    readings: Readings,
    number: int,
    ours: Wide,
    weights: Mapping[str, float],
    usable: Sequence[Action],
    others: Sequence[Action] = (),
) -> Similarity:
    """Scores of the pairs of set `number`.

    Args:
        ours: weights in the frame of theirs, already moved on the axes that `usable` contracts.
        usable: one action for each (tensor, axis) of the set that may be compared slot by slot.
        others: those of which only norms can be compared, because their other axes are not matched yet.
    """
    unit_set = readings.symmetry.unit_sets[number]
    found = Similarity(readings.families(number), unit_set.size)
    for action in usable:
        weight = weights[action.tensor]
        for part, x, y in readings.slices(ours, number, action) if weight else ():
            found.add(part, x, y, weight)
            if action.phase and unit_set.families["shift"] == 1 and x.shape[1] == 1:
                found.phases.append((action.phase, weight, part.own, x[:, 0], y[:, 0]))
    for action in others:
        slots, sides = readings.place(number, action).slots, (ours, readings.theirs)
        x, y = (norms(rows_of(tensors[action.tensor], action)[slots]) for tensors in sides)
        found.add(Part(frozenset(), frozenset(), False), x, y, weights[action.tensor])
    return found
