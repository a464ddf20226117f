"""networks/degrees.py: which linear terms are equivariant, derived from degrees (DESIGN 2.5). No torch, no weights.

A tensor of a chain moves with a character per unit: W^i[p, q] with g_p / h_q, b^i[p] with g_p. Write that as exponents
on the unit sets the tensor touches, +1 on the outgoing axis and −1 on the incoming one. What a group knows of an
exponent is its residue: all of it for positive scales (modulus 0), its parity for signs (modulus 2, 1/h = h), nothing
for permutations alone (modulus 1). A linear map is equivariant exactly if each of its coefficients joins entries of
equal character and the coefficients do not tell apart the units of a set. So, for a pair of tensors, each moving axis
is either *tied* (same unit on both sides, equal exponents), or left out of the character (exponent 0 in the group) and
then averaged where it is read and repeated where it is written. The outermost axes do not move, so they may be mixed
by full learned matrices; only for the neuron permutations of Zhou et al. 2023 they move like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Group:
    """What a term must know of a group.

    Attributes:
        modulus: of its exponents.
        ends_move: whether the units of the input and of the output are permuted, too.
    """

    modulus: int
    ends_move: bool = False


# A group is nothing else to the layers below. "permutation" gives the HNP layers of Zhou et al. 2023 (arXiv 2302.14040),
# "neuron_permutation" their NP layers.
GROUPS: Mapping[str, Group] = MappingProxyType(
    {
        "positive_scale": Group(0),
        "sign": Group(2),
        "permutation": Group(1),
        "neuron_permutation": Group(1, ends_move=True),
    }
)


@dataclass(frozen=True, slots=True, order=True)
class TensorName:
    """One tensor of a chain: layer counts from 1."""

    kind: Literal["weight", "bias"]
    layer: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor: which unit axis of the chain it runs over, its exponent, whether the group moves it."""

    units: int
    exponent: int
    moves: bool


@dataclass(frozen=True, slots=True)
class Term:
    """One block of an equivariant linear map from tensor `reads` to tensor `into`; unit axes by their number in the chain.

    The axes of `reads` that move are averaged, unless they are tied; the learned tensor is a full matrix from (channels
    read, axes read) to (channels written, axes written); the result is repeated along what is not kept. `reads` is None
    for the constant term.

    Attributes:
        into, reads: tensors written and read.
        written, read: axes of each that do not move: the learned tensor has them beside its channels, in this order.
        tied: axes of both that stay as they are, in the order of `into`.
        averaged: axes of `reads` that are averaged over.
        kept: for each axis of `into`, whether the result has it (False: repeated).
    """

    into: TensorName
    reads: TensorName | None
    written: tuple[int, ...]
    read: tuple[int, ...]
    tied: tuple[int, ...]
    averaged: tuple[int, ...]
    kept: tuple[bool, ...]

    @property
    def learned(self) -> tuple[int, ...]:
        """Unit axes of the learned tensor behind its channels (written, read)."""
        return (*self.written, *self.read)


def tensors_of(depth: int) -> tuple[TensorName, ...]:
    """All tensors of a chain with `depth` layers, weights first."""
    layers = range(1, depth + 1)
    return (*(TensorName("weight", i) for i in layers), *(TensorName("bias", i) for i in layers))


def units_of(tensor: TensorName) -> tuple[int, ...]:
    """Unit axes of a tensor, in its order."""
    return (tensor.layer, tensor.layer - 1) if tensor.kind == "weight" else (tensor.layer,)


def axes_of(tensor: TensorName, depth: int, group: str) -> tuple[Axis, ...]:
    """Axes of a tensor with the exponents that the group sees (0 on an axis that does not move)."""
    known = GROUPS[group]

    def axis(units: int, exponent: int) -> Axis:
        moves = known.ends_move or 0 < units < depth
        return Axis(units, _residue(exponent, known.modulus) if moves else 0, moves)

    return tuple(axis(units, exponent) for units, exponent in zip(units_of(tensor), (+1, -1), strict=False))


def terms_of(depth: int, group: str) -> tuple[Term, ...]:
    """Every equivariant linear term of a chain with `depth` layers under `group` (a key of GROUPS)."""
    tensors = tensors_of(depth)
    terms: list[Term] = []
    for into in tensors:
        written = axes_of(into, depth, group)
        for reads in tensors:
            terms += _terms_between(into, written, reads, axes_of(reads, depth, group))
        if all(axis.exponent == 0 for axis in written):
            terms.append(_constant(into, written))
    return tuple(terms)


def _residue(exponent: int, modulus: int) -> int:
    return exponent % modulus if modulus else exponent


def _ties(written: tuple[Axis, ...], read: tuple[Axis, ...]) -> Iterator[frozenset[int]]:
    """Sets of unit axes that may be tied; untied axes that move must not carry a character."""
    shared = sorted({a.units for a in written if a.moves} & {a.units for a in read if a.moves})
    exponent_written = {a.units: a.exponent for a in written}
    exponent_read = {a.units: a.exponent for a in read}
    for choice in product((True, False), repeat=len(shared)):
        tied = frozenset(units for units, yes in zip(shared, choice, strict=True) if yes)
        equal = all(exponent_written[units] == exponent_read[units] for units in tied)
        free = all(a.exponent == 0 for a in (*written, *read) if a.moves and a.units not in tied)
        if equal and free:
            yield tied


def _terms_between(
    into: TensorName, written: tuple[Axis, ...], reads: TensorName, read: tuple[Axis, ...]
) -> Iterator[Term]:
    for tied in _ties(written, read):
        yield Term(
            into=into,
            reads=reads,
            written=tuple(a.units for a in written if not a.moves),
            read=tuple(a.units for a in read if not a.moves),
            tied=tuple(a.units for a in written if a.units in tied),
            averaged=tuple(a.units for a in read if a.moves and a.units not in tied),
            kept=tuple(not a.moves or a.units in tied for a in written),
        )


def _constant(into: TensorName, written: tuple[Axis, ...]) -> Term:
    fixed = tuple(a.units for a in written if not a.moves)
    return Term(into, None, fixed, (), (), (), tuple(not a.moves for a in written))
