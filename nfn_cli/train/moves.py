"""train/moves.py: random group elements of a chosen kind and size, many at once. Knows the flat layout of Symmetry; no tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.errors import WrongUsage
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

# The magnitudes of the evaluations under scales in arXiv 2409.11697: U[1, 10] … U[1, 10⁴].
UNIFORM_SCALES = (1e1, 1e2, 1e3, 1e4)


@dataclass(frozen=True)
class OrbitMove:
    """A kind of random group element and how far it goes.

    Attributes:
        kind: a key of `DRAWS`.
        largest: of "scale" and "power-of-two" m, for factors log-uniform in [1/m, m]; of "uniform-scale" m, for factors
            uniform in [1, m]; of "phase" the most half periods either way; of "all" m as for "scale"; of the others the
            share of units (groups) that the element may touch.
    """

    kind: str
    largest: float


@dataclass(frozen=True, eq=False)
class FlatBatch:
    """The vectors of `FlatElement`, one row an element: (rows, units), (rows, scales), (rows, signs), (rows, shifts)."""

    permutation: IntArray
    scale: FloatArray
    sign: FloatArray
    shift: IntArray

    def __len__(self) -> int:
        return len(self.permutation)

    def row(self, number: int) -> FlatElement:
        return FlatElement(self.permutation[number], self.scale[number], self.sign[number], self.shift[number])

    def rows(self, part: slice) -> FlatBatch:
        return FlatBatch(self.permutation[part], self.scale[part], self.sign[part], self.shift[part])


def drawn(symmetry: Symmetry, move: OrbitMove, rows: int, random: np.random.Generator) -> FlatBatch:
    """`rows` independent elements of the group.

    Raises:
        WrongUsage: there is no such kind.
    """
    draw = DRAWS.get(move.kind)
    if draw is None:
        raise WrongUsage(f"unknown kind of move {move.kind!r}", fix=f"known: {', '.join(DRAWS)}", code="wrong-usage")
    batch = FlatBatch(
        np.tile(np.arange(symmetry.units, dtype=np.int64), (rows, 1)),
        np.ones((rows, len(symmetry.classes["scale"]))),
        np.ones((rows, len(symmetry.classes["sign"]))),
        np.zeros((rows, len(symmetry.classes["shift"])), np.int64),
    )
    draw(symmetry, move.largest, batch, random)
    return batch


def moves_for(symmetry: Symmetry) -> tuple[OrbitMove, ...]:
    """What an evaluation under orbit transformations tries on networks of this group: every kind that it has."""
    scales = [OrbitMove("uniform-scale", largest) for largest in UNIFORM_SCALES]
    others = [OrbitMove("sign", 1.0), OrbitMove("phase", 3.0), OrbitMove("permutation", 1.0)]
    moves = (*scales, *others, OrbitMove("group-exchange", 1.0))
    return tuple(move for move in moves if has(symmetry, move.kind))


def has(symmetry: Symmetry, kind: str) -> bool:
    """Whether the group has an element of this kind other than 1."""
    if kind == "permutation":
        return any(s.permutable and (s.block_size or s.size) > 1 for s in symmetry.unit_sets)
    if kind == "group-exchange":
        return any(_exchangeable(s) for s in symmetry.unit_sets)
    if kind == "all":
        return any(has(symmetry, one) for one in DRAWS if one != "all")
    return bool(len(symmetry.classes[_FAMILY_OF[kind]]))


_FAMILY_OF = {"scale": "scale", "uniform-scale": "scale", "power-of-two": "scale", "sign": "sign", "phase": "shift"}
Draw = Callable[[Symmetry, float, FlatBatch, np.random.Generator], None]


def _exchangeable(unit_set: UnitSet) -> bool:
    return bool(unit_set.permutable and unit_set.block_size and unit_set.size > unit_set.block_size)


def _permutations(symmetry: Symmetry, share: float, batch: FlatBatch, random: np.random.Generator) -> None:
    """Units change places; where they sit in groups, within these."""
    for unit_set in symmetry.unit_sets:
        if not unit_set.permutable:
            continue
        k = unit_set.block_size or unit_set.size
        blocks = unit_set.size // k if k else 0
        within = _shuffles((len(batch), blocks, k), share, random) + k * np.arange(blocks)[:, None]
        _compose(batch, unit_set, within.reshape(len(batch), unit_set.size))


def _exchanges(symmetry: Symmetry, share: float, batch: FlatBatch, random: np.random.Generator) -> None:
    """Whole groups change places; sets of one family exchange theirs together."""
    order_of: dict[int, IntArray] = {}
    for unit_set in symmetry.unit_sets:
        if not _exchangeable(unit_set):
            continue
        k = unit_set.block_size
        if unit_set.block_family not in order_of:
            order_of[unit_set.block_family] = _shuffles((len(batch), unit_set.size // k), share, random)
        units = order_of[unit_set.block_family][:, :, None] * k + np.arange(k)
        _compose(batch, unit_set, units.reshape(len(batch), unit_set.size))


def _shuffles(shape: tuple[int, ...], share: float, random: np.random.Generator) -> IntArray:
    """Along the last axis: a uniform permutation of a random subset of that share (two at least), the rest in place."""
    n = shape[-1]
    chosen = np.argsort(random.random(shape), axis=-1)[..., : min(n, max(2, round(share * n)))]
    out = np.broadcast_to(np.arange(n, dtype=np.int64), shape).copy()
    np.put_along_axis(out, np.sort(chosen, axis=-1), chosen, axis=-1)
    return out


def _compose(batch: FlatBatch, unit_set: UnitSet, order: IntArray) -> None:
    """Unit i of the set becomes what unit order[i] of it was up to now."""
    span = slice(unit_set.start, unit_set.start + unit_set.size)
    batch.permutation[:, span] = np.take_along_axis(batch.permutation[:, span], order, axis=1)


def _by_class(symmetry: Symmetry, kind: str, rows: int, draw: Callable[[tuple[int, int]], Any]) -> Any:
    """(rows, entries): entries that the network ties share one draw."""
    classes = symmetry.classes[kind]
    return draw((rows, int(classes.max(initial=-1)) + 1))[:, classes]


def _scales(symmetry: Symmetry, largest: float, batch: FlatBatch, random: np.random.Generator) -> None:
    bound = np.log(largest)
    batch.scale[:] = np.exp(
        _by_class(symmetry, "scale", len(batch), lambda shape: random.uniform(-bound, bound, shape))
    )


def _uniform_scales(symmetry: Symmetry, largest: float, batch: FlatBatch, random: np.random.Generator) -> None:
    batch.scale[:] = _by_class(symmetry, "scale", len(batch), lambda shape: random.uniform(1.0, largest, shape))


def _powers_of_two(symmetry: Symmetry, largest: float, batch: FlatBatch, random: np.random.Generator) -> None:
    most = int(np.log2(largest))
    batch.scale[:] = 2.0 ** _by_class(
        symmetry, "scale", len(batch), lambda shape: random.integers(-most, most + 1, shape)
    )


def _signs(symmetry: Symmetry, share: float, batch: FlatBatch, random: np.random.Generator) -> None:
    """A share of 1 means uniform signs of all units; a smaller one, uniform signs of about that share of them."""
    batch.sign[:] = _by_class(
        symmetry, "sign", len(batch), lambda shape: np.where(random.random(shape) < share / 2, -1.0, 1.0)
    )


def _phases(symmetry: Symmetry, most: float, batch: FlatBatch, random: np.random.Generator) -> None:
    batch.shift[:] = _by_class(
        symmetry, "shift", len(batch), lambda shape: random.integers(-int(most), int(most) + 1, shape)
    )


def _all(symmetry: Symmetry, largest: float, batch: FlatBatch, random: np.random.Generator) -> None:
    _permutations(symmetry, 1.0, batch, random)
    _exchanges(symmetry, 1.0, batch, random)
    _scales(symmetry, largest, batch, random)
    _signs(symmetry, 1.0, batch, random)
    _phases(symmetry, 3.0, batch, random)


DRAWS: dict[str, Draw] = {
    "permutation": _permutations,
    "group-exchange": _exchanges,
    "scale": _scales,
    "uniform-scale": _uniform_scales,
    "power-of-two": _powers_of_two,
    "sign": _signs,
    "phase": _phases,
    "all": _all,
}
