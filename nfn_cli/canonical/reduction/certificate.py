"""canonical/reduction/certificate.py: what was removed, unit by unit, in the numbers of the original file. Knows no op, no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.canonical.reduction.dead import Reader
from nfn_cli.canonical.reduction.layout import Layout, Place
from nfn_cli.canonical.reduction.numbering import Numbering
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray

# In the order in which a unit is said to be removed by one where several hold.
RULES = ("unread", "constant", "always-off", "dependent", "duplicate", "mixed")


@dataclass(frozen=True)
class Removed:
    """One unit that went.

    Attributes:
        tensor, axis, index: where it stood in the original file: the first tensor that makes it.
        rule: "unread": nothing depended on it. "constant": nothing fed it, its constant went into the next bias.
            "always-off": one number for every input in the stated range: relu at 0, hardtanh at an end.
            "duplicate": a multiple of another. "dependent": a linear combination of others that are linear on the whole
            range. "mixed": one of several between two linear layers, fewer of which hold the layers' product; those that
            stay are mixtures, so none has a number.
        kept: tensor and index of the unit that took over its outgoing weights.
        factor: the unit is so many times that one (plus `constant`).
        constant: what went into biases, times its outgoing weights.
        residual: relative distance of its incoming row from the one it was taken to be.
    """

    tensor: str
    axis: int
    index: int | None
    rule: str
    kept: tuple[str, int] | None
    factor: float | None
    constant: float | None
    residual: float

    def as_json(self) -> dict[str, Any]:
        kept = None if self.kept is None else {"tensor": self.kept[0], "index": self.kept[1]}
        return {
            "tensor": self.tensor,
            "axis": self.axis,
            "index": self.index,
            "rule": self.rule,
            "kept": kept,
            "factor": self.factor,
            "constant": self.constant,
            "residual": self.residual,
        }


class Origins:
    """Which slot of the original file each slot of the current tensors is, through several rounds."""

    def __init__(self) -> None:
        self._index: dict[tuple[str, int], IntArray] = {}

    def of(self, place: Place) -> IntArray:
        found = self._index.get((place.tensor, place.dim))
        return np.arange(len(place.units)) if found is None else found

    def forget(self, layout: Layout, units: IntArray) -> None:
        """These units are mixtures now and have no number."""
        for place in layout.places:
            if place.groups == 1 and np.isin(place.units, units).any():
                self._index[place.tensor, place.dim] = np.where(np.isin(place.units, units), -1, self.of(place))

    def cut(self, layout: Layout, keep: BoolArray) -> None:
        for place in {(p.tensor, p.dim): p for p in layout.places if p.groups == 1}.values():
            self._index[place.tensor, place.dim] = self.of(place)[keep[place.units]]


@dataclass(eq=False)
class _Reasons:
    """(units,) why each unit goes."""

    rule: IntArray
    stand: IntArray
    factor: FloatArray
    constant: FloatArray
    residual: FloatArray


def certified(
    layout: Layout, numberings: Sequence[Numbering], readers: Sequence[Reader], keep: BoolArray, origins: Origins
) -> list[Removed]:
    """One entry for each unit that goes in this round."""
    reasons = _reasons(layout, numberings, readers, keep)
    tensors, where = _first_places(layout)
    gone = np.flatnonzero(~keep & (where[0] >= 0))
    names: Mapping[int, Place] = dict(enumerate(tensors))

    def name(unit: int) -> tuple[str, int, int]:
        place = names[int(where[0, unit])]
        return place.tensor, place.dim, int(origins.of(place)[where[1, unit]])

    order = gone[np.lexsort((where[1, gone], where[0, gone]))]
    return [_entry(name, reasons, int(unit)) for unit in order]


def _entry(name: Any, reasons: _Reasons, unit: int) -> Removed:
    rule, stand = RULES[reasons.rule[unit]], int(reasons.stand[unit])
    tensor, axis, number = name(unit)
    index = number if number >= 0 else None
    kept = None
    if stand >= 0:
        other, _, stands = name(stand)
        kept = (other, stands) if stands >= 0 else None
    constant = float(reasons.constant[unit]) if rule in ("constant", "always-off", "duplicate", "dependent") else None
    factor = float(reasons.factor[unit]) if stand >= 0 else None
    return Removed(tensor, axis, index, rule, kept, factor, constant, float(reasons.residual[unit]))


def mixed(layout: Layout, units: IntArray, width: int, residual: float) -> list[Removed]:
    """One entry for each unit fewer between two layers."""
    places, where = _first_places(layout)
    place = places[int(where[0, units[0]])]
    return [Removed(place.tensor, place.dim, None, "mixed", None, None, None, residual)] * (len(units) - width)


def _reasons(layout: Layout, numberings: Sequence[Numbering], readers: Sequence[Reader], keep: BoolArray) -> _Reasons:
    n = len(keep)
    found = _Reasons(np.zeros(n, np.int64), np.full(n, -1), np.zeros(n), np.zeros(n), np.zeros(n))
    for reader in readers:
        seen = reader.terms(keep)
        gone = ~keep[reader.into]
        constant = gone & (seen.stand == -1)
        found.rule[reader.into[constant]] = np.maximum(found.rule[reader.into[constant]], 1)
        found.constant[reader.into[constant]] = seen.rest[constant]
        moved = seen.moved
        moved = moved[gone[moved] & keep[reader.into[seen.stand[moved]]]]
        combined = gone & (seen.stand == -2)
        found.rule[reader.into[combined]] = np.maximum(found.rule[reader.into[combined]], 3)
        found.constant[reader.into[combined]] = seen.rest[combined]
        units = reader.into[moved]
        found.rule[units], found.stand[units] = 4, reader.into[seen.stand[moved]]
        found.factor[units], found.constant[units] = seen.ratio[moved], seen.rest[moved]
    for number, numbering in enumerate(numberings):
        at: IntArray | None
        for value, residual in numbering.residual.items():
            at = layout.units(number, value, numbering.values[value].axis)
            if at is not None:
                np.maximum.at(found.residual, at, residual)
        for value, off in numbering.off.items():
            at = layout.units(number, value, numbering.values[value].axis)
            if at is not None:
                found.rule[at[off & (found.rule[at] == 1)]] = 2
    found.residual[(found.rule != 3) & (found.rule != 4)] = 0.0
    return found


def _first_places(layout: Layout) -> tuple[list[Place], IntArray]:
    """Places, and (2, units) the place and slot that name each unit: the first that makes it, else the first of all."""
    where = np.full((2, len(layout.fixed)), -1)
    places = [*(p for p in layout.places if p.makes and p.groups == 1), *(p for p in layout.places if not p.makes)]
    places = [place for place in places if place.groups == 1]
    for number in reversed(range(len(places))):
        units = places[number].units
        slots = np.arange(len(units))[::-1]
        where[0, units[::-1]], where[1, units[::-1]] = number, slots
    return places, where
