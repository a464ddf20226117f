"""symmetry/element.py: monomial group elements: a permutation, scales, signs and phase counts per unit set. No tensor, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.solve import Symmetry

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class SetElement:
    """What is done to one unit set of size n: new unit i is old unit permutation[i], scaled, flipped and shifted.

    Attributes:
        permutation: (n,) int64.
        scale: (F, n) float64, positive: F magnitudes a unit (two around a batch norm).
        sign: (G, n) int8, ±1.
        shift: (H, n) int64: bias + shift·π/ω.
        shift_sign: (H,) which row of `sign` multiplies that bias, −1 for none.
    """

    permutation: IntArray
    scale: FloatArray
    sign: np.ndarray[Any, np.dtype[np.int8]]
    shift: IntArray
    shift_sign: IntArray

    def inverse(self) -> SetElement:
        back = np.argsort(self.permutation)
        sign = self.sign[:, back]
        return SetElement(
            back, 1.0 / self.scale[:, back], sign, -self._bias_sign(sign) * self.shift[:, back], self.shift_sign
        )

    def after(self, first: SetElement) -> SetElement:
        """The product: `first` acts, then this."""
        p = self.permutation
        return SetElement(
            first.permutation[p],
            self.scale * first.scale[:, p],
            self.sign * first.sign[:, p],
            self._bias_sign(self.sign) * first.shift[:, p] + self.shift,
            self.shift_sign,
        )

    def _bias_sign(self, sign: np.ndarray[Any, np.dtype[np.int8]]) -> IntArray:
        padded = np.concatenate([sign, np.ones((1, sign.shape[1]), np.int8)])
        return padded[self.shift_sign].astype(np.int64)


@dataclass(frozen=True, eq=False)
class GroupElement:
    """One element of the monomial group of a checkpoint, by name of unit set."""

    sets: Mapping[str, SetElement]

    def inverse(self) -> GroupElement:
        return GroupElement({name: part.inverse() for name, part in self.sets.items()})

    def after(self, first: GroupElement) -> GroupElement:
        return GroupElement({name: part.after(first.sets[name]) for name, part in self.sets.items()})


@dataclass(frozen=True, eq=False)
class FlatElement:
    """A group element as four vectors in the flat layout of `Symmetry`; `permutation` holds flat unit numbers."""

    permutation: IntArray
    scale: FloatArray
    sign: FloatArray
    shift: IntArray


def from_flat(symmetry: Symmetry, flat: FlatElement) -> GroupElement:
    sets = {}
    for number, unit_set in enumerate(symmetry.unit_sets):
        n = unit_set.size
        rows = {}
        for kind, vector in (("scale", flat.scale), ("sign", flat.sign), ("shift", flat.shift)):
            start, count = symmetry.starts[kind][number], unit_set.families[kind]
            rows[kind] = vector[start : start + count * n].reshape(count, n)
        start = symmetry.starts["shift"][number]
        first = symmetry.shift_signs[start : start + unit_set.families["shift"] * n : max(n, 1)]
        shift_sign = np.where(first < 0, -1, (first - symmetry.starts["sign"][number]) // max(n, 1))
        sets[unit_set.name] = SetElement(
            flat.permutation[unit_set.start : unit_set.start + n] - unit_set.start,
            rows["scale"].astype(np.float64),
            rows["sign"].astype(np.int8),
            rows["shift"].astype(np.int64),
            shift_sign.astype(np.int64),
        )
    return GroupElement(sets)


def to_flat(symmetry: Symmetry, element: GroupElement) -> FlatElement:
    """Check the element against the group and lay it out flat.

    Raises:
        Refused: it is not an element of this group (code "element-does-not-fit").
    """
    expected = {unit_set.name for unit_set in symmetry.unit_sets}
    if set(element.sets) != expected:
        odd = sorted(expected ^ set(element.sets))[0]
        raise _misfit(odd, "is in only one of element and network")
    flat = identity(symmetry)
    for number, unit_set in enumerate(symmetry.unit_sets):
        part, n = element.sets[unit_set.name], unit_set.size
        if part.permutation.shape != (n,) or not np.array_equal(np.sort(part.permutation), np.arange(n)):
            raise _misfit(unit_set.name, f"needs a permutation of {n} units")
        if not unit_set.permutable and not np.array_equal(part.permutation, np.arange(n)):
            raise _misfit(unit_set.name, "cannot be permuted")
        flat.permutation[unit_set.start : unit_set.start + n] = part.permutation + unit_set.start
        for kind, rows, vector in (
            ("scale", part.scale, flat.scale),
            ("sign", part.sign, flat.sign),
            ("shift", part.shift, flat.shift),
        ):
            count, start = unit_set.families[kind], symmetry.starts[kind][number]
            if rows.shape != (count, n):
                raise _misfit(unit_set.name, f"needs {count} × {n} entries of {kind}, not {rows.shape}")
            vector[start : start + count * n] = rows.reshape(-1)
    _check_blocks(symmetry, element)
    if not (np.isfinite(flat.scale).all() and (flat.scale > 0).all() and (np.abs(flat.sign) == 1).all()):
        raise _misfit("element", "needs finite positive scales and signs ±1")
    for kind, values in (("scale", flat.scale), ("sign", flat.sign), ("shift", flat.shift)):
        classes = symmetry.classes[kind]
        representative = np.zeros(int(classes.max(initial=-1)) + 1, values.dtype)
        representative[classes] = values
        if not np.array_equal(representative[classes], values):
            raise _misfit("element", f"gives different values of {kind} to entries that the network ties")
    return flat


def _check_blocks(symmetry: Symmetry, element: GroupElement) -> None:
    exchanged: dict[int, IntArray] = {}
    for unit_set in symmetry.unit_sets:
        if not unit_set.block_size or not unit_set.permutable:
            continue
        blocks = element.sets[unit_set.name].permutation.reshape(-1, unit_set.block_size) // unit_set.block_size
        first = exchanged.setdefault(unit_set.block_family, blocks[:, 0])
        if (blocks != first[:, None]).any():
            raise _misfit(unit_set.name, f"must keep runs of {unit_set.block_size} units together")


def _misfit(name: str, what: str) -> Refused:
    return Refused(f"the element does not fit this network: {name!r} {what}", code="element-does-not-fit")


def identity(symmetry: Symmetry) -> FlatElement:
    return FlatElement(
        np.arange(symmetry.units, dtype=np.int64),
        np.ones(len(symmetry.classes["scale"])),
        np.ones(len(symmetry.classes["sign"])),
        np.zeros(len(symmetry.classes["shift"]), np.int64),
    )


def random_flat(
    symmetry: Symmetry, seed: int, *, scales: tuple[float, float] = (0.25, 4.0), shifts: int = 3
) -> FlatElement:
    """Uniform permutations and signs, log-uniform scales, phase counts in −shifts … shifts."""
    generator = np.random.default_rng(seed)
    flat = identity(symmetry)
    exchanged: dict[int, IntArray] = {}
    for unit_set in symmetry.unit_sets:
        if not unit_set.permutable:
            continue
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        if unit_set.block_size:
            k = unit_set.block_size
            count = unit_set.size // k
            if unit_set.block_family not in exchanged:
                exchanged[unit_set.block_family] = generator.permutation(count)
            within = np.argsort(generator.random((count, k)), axis=1)
            moved = exchanged[unit_set.block_family][:, None] * k + within
            flat.permutation[span] = moved.reshape(-1) + unit_set.start
        else:
            flat.permutation[span] = generator.permutation(unit_set.size) + unit_set.start

    def draws(kind: str) -> FloatArray:
        classes = symmetry.classes[kind]
        return generator.random(int(classes.max(initial=-1)) + 1)[classes]

    low, high = np.log(scales[0]), np.log(scales[1])
    flat.scale[:] = np.exp(low + (high - low) * draws("scale"))
    flat.sign[:] = np.where(draws("sign") < 0.5, -1.0, 1.0)
    flat.shift[:] = np.floor(draws("shift") * (2 * shifts + 1)).astype(np.int64) - shifts
    return flat
