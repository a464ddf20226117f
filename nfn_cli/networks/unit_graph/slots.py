"""unit_graph/slots.py: who the slots of an axis are (which unit, flipped by what), and how two axes meet. No tensor values.

Nothing here trusts an op: what one op wrote and the next one reads is compared slot by slot in the numbers of the
Symmetry. Where units disagree the reader sees an average, where signs disagree it sees what no sign moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.solve import Action, Symmetry


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """One axis: (n,) flat unit of each slot (−1: fixed) and (n,) code of what flips it (−1: nothing)."""

    units: IntArray
    signs: IntArray

    def __len__(self) -> int:
        return len(self.units)

    def taken(self, index: IntArray) -> Slots:
        return Slots(self.units[index], self.signs[index])


def fixed(count: int) -> Slots:
    """Slots that nothing moves."""
    return Slots(np.full(count, -1, np.int64), np.full(count, -1, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """How a value's slots arrive at an axis that reads them.

    Attributes:
        aligned: slot i is slot i; otherwise every slot of the axis sees the average over the value.
        keep: (n,) bool: value and axis are flipped by the same sign, or by none.
        flipping: (n,) bool: a sign flips the axis. Where `keep` is False nothing odd arrives: at a slot that nothing
            flips the even part counts as the whole.
    """

    aligned: bool
    keep: np.ndarray[tuple[int], np.dtype[np.bool_]]
    flipping: np.ndarray[tuple[int], np.dtype[np.bool_]]


def linked(value: Slots | None, axis: Slots) -> Link:
    """The value (None: only an average is known of it) as read by an axis."""
    flipping = axis.signs >= 0
    if value is None or not np.array_equal(value.units, axis.units):
        return Link(False, np.zeros(len(axis), bool), flipping)
    return Link(True, value.signs == axis.signs, flipping)


@dataclass
class SignCodes:
    """Numbers for products of signs: the same product, the same number."""

    symmetry: Symmetry
    _codes: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)

    def slots(self, actions: list[Action], length: int) -> Slots:
        """An axis on which these actions are (one, or none: nothing moves it)."""
        if not actions:
            return fixed(length)
        return Slots(actions[0].unit, self.of(actions))

    def of(self, actions: list[Action]) -> IntArray:
        """(slots,) code of the product of all signs that the actions multiply with."""
        tables = {kind: np.append(self.symmetry.classes[kind], -1) for kind in ("sign", "shift")}
        rows: list[tuple[str, IntArray]] = []
        for action in actions:
            if action.signed:
                rows += [("sign", tables["sign"][line]) for line in action.sign]
            if action.signed and not action.phase:
                rows.append(("shift", tables["shift"][action.shift]))
        return np.array([self._code(rows, slot) for slot in range(len(actions[0].unit))], np.int64)

    def _code(self, rows: list[tuple[str, IntArray]], slot: int) -> int:
        odd: set[tuple[str, int]] = set()
        for kind, line in rows:
            if line[slot] >= 0:
                odd ^= {(kind, int(line[slot]))}
        return self._codes.setdefault(tuple(sorted(odd)), len(self._codes)) if odd else -1
