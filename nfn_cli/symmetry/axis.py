"""symmetry/axis.py: the type of one axis: which unit each slot belongs to. Arrays only; no op, no tensor, no file.

The types of DESIGN 2.3 (Fixed, Atom, Sum, Product) are kept by extension: an axis of length n is n slots, and a slot
names its unit and a label that tells apart the slots one unit has in the same axis. Atom(n) is n units with one label;
Sum gives every operand its own labels; Product(channel, Fixed(k)) repeats each unit under k labels; Fixed(n) is n
pinned units. Unification then is nothing but "slot i of this axis and slot i of that axis are the same unit".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[np.int64]]
HashArray = np.ndarray[Any, np.dtype[np.uint64]]


def mix(*parts: Any) -> HashArray:
    """Hash arrays (or numbers) elementwise into 64 bits (splitmix64); equal inputs give equal outputs."""
    state: Any = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for part in parts:
            z = (
                np.asarray(part).astype(np.uint64)
                + state * np.uint64(0xD1342543DE82EF95)
                + np.uint64(0x632BE59BD9B4E019)
            )
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = z ^ (z >> np.uint64(31))
    return np.asarray(state, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of a value or parameter: five arrays of equal length, one entry a slot.

    Attributes:
        unit: node of the unit the slot belongs to.
        label: which of the unit's slots in this axis this is; (unit, label) is unique in an axis.
        scale: node of the log-magnitude c the slot carries; 0 means "always 1".
        power: the slot carries c**power (2 after a squared relu).
        sign: node of the slot's sign; 0 means "always +".
        shift: node of a phase count k; the slot carries the further sign (−1)^k; 0 means none.
    """

    unit: IntArray
    label: HashArray
    scale: IntArray
    power: IntArray
    sign: IntArray
    shift: IntArray

    def __len__(self) -> int:
        return len(self.unit)

    def without_scale(self) -> Axis:
        return replace(self, scale=np.zeros_like(self.scale))

    def without_sign(self) -> Axis:
        return replace(self, sign=np.zeros_like(self.sign), shift=np.zeros_like(self.shift))

    def taken(self, index: IntArray, labels: Any) -> Axis:
        """Slots `index` of this axis (repetition allowed), told apart further by `labels`."""
        return Axis(
            self.unit[index],
            mix(self.label[index], labels),
            self.scale[index],
            self.power[index],
            self.sign[index],
            self.shift[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """Axis `index` of several that an axis was cut into; only together, in any order, they carry its units.

    Attributes:
        whole: the axis that was cut.
        shape: the lengths of its parts, outermost first; their product is len(whole).
        index: which part this is.
    """

    whole: Axis
    shape: tuple[int, ...]
    index: int

    def __len__(self) -> int:
        return self.shape[self.index]


def concatenated(axes: list[Axis]) -> Axis:
    """The Sum of axes: slots one after another, each operand with labels of its own."""
    parts = [axis.taken(np.arange(len(axis)), operand) for operand, axis in enumerate(axes)]
    return Axis(*(np.concatenate([getattr(part, name) for part in parts]) for name in Axis.__slots__))
