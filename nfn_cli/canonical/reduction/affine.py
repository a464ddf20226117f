"""canonical/reduction/affine.py: the slots of one axis as multiples of unnamed functions. Plain arrays; no op, no tensor.

Slot i of the axis is factor[i] · r + offset[i], where r is the function of number kind[i]: two slots of one kind are the same
function of the network's input up to a factor and a constant. This is value numbering, modulo affine maps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nfn_cli.canonical.reduction.duplicates import Close, grouped
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray


@dataclass(frozen=True, eq=False)
class Affine:
    """One axis of a value.

    Attributes:
        axis: counted from the end, so that broadcasting does not move it.
        kind: (n,) number of the function; 0 where the slot is a constant.
        factor: (n,) not 0, but where the slot is a constant.
        offset: (n,) what is added; the constant itself where the slot is one.
        blur: (n,) how far the offset may be off through rounding of stored weights.
    """

    axis: int
    kind: IntArray
    factor: FloatArray
    offset: FloatArray
    blur: FloatArray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def constant(self) -> BoolArray:
        return np.asarray(self.kind == 0)

    def taken(self, index: IntArray) -> Affine:
        return replace(
            self,
            kind=self.kind[index],
            factor=self.factor[index],
            offset=self.offset[index],
            blur=self.blur[index],
        )


def joined(parts: list[Affine]) -> Affine:
    """Several axes, one after another."""
    return Affine(
        parts[0].axis,
        np.concatenate([part.kind for part in parts]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("factor", "offset", "blur")),
    )


@dataclass
class Kinds:
    """Hands out numbers of functions; 0 is the constant.

    Args:
        tolerance: how far, relatively, two factors may lie apart and count as one.
    """

    tolerance: float
    count: int = field(default=1)

    def fresh(self, n: int) -> IntArray:
        start, self.count = self.count, self.count + n
        return np.arange(start, start + n, dtype=np.int64)

    def unknown(self, axis: int, n: int) -> Affine:
        """n slots of which nothing is known: each a function of its own."""
        return Affine(axis, self.fresh(n), np.ones(n), np.zeros(n), np.zeros(n))

    def numbered(self, constant: BoolArray, exact: list[IntArray], close: list[Close]) -> IntArray:
        """(n,) one number for slots that agree in all keys; 0 for constants."""
        use = np.flatnonzero(~constant)
        kind = np.zeros(len(constant), np.int64)
        group = grouped([key[use] for key in exact], [Close(c.values[use], c.tolerance[use]) for c in close])
        kind[use] = self.fresh(int(group.max(initial=-1)) + 1)[group] if len(use) else 0
        return kind

    def near(self, values: FloatArray, blur: FloatArray | float = 0.0) -> Close:
        return Close(values, self.tolerance * np.abs(values) + blur)

    def spread(self, x: Affine, keeps_constants: bool, *exact: IntArray) -> Affine:
        """After a linear map that treats all slots alike.

        Args:
            keeps_constants: whether a constant comes out as itself (averages do, zero padding does not: there a slot
                is a multiple of what it was with its constant).
            exact: further keys; slots that differ in one are different functions.
        """
        if keeps_constants:
            return replace(x, kind=self.numbered(x.constant, [x.kind, *exact], []))
        plain = x.constant & (x.offset == 0)
        factor = np.where(x.constant, x.offset, x.factor)
        relative = np.where(x.constant, 1.0, x.offset / np.where(x.constant, 1.0, factor))
        blur = np.where(x.constant, 0.0, x.blur / np.abs(np.where(factor == 0, 1.0, factor)))
        kind = self.numbered(plain, [x.kind, *exact], [self.near(relative, blur)])
        return Affine(x.axis, kind, np.where(plain, 0.0, factor), np.zeros(len(x)), np.zeros(len(x)))

    def largest(self, x: Affine) -> Affine:
        """After a maximum over positions: max(f·r + g) = |f|·max(±r) + g."""
        kind = self.numbered(x.constant, [x.kind, np.sign(x.factor).astype(np.int64)], [])
        return replace(x, kind=kind, factor=np.abs(x.factor))
