"""networks/degrees.py: which linear terms are equivariant, derived from degrees (DESIGN 2.5). No torch, no weights.

A tensor of a chain moves with a character per unit: W^i[p, q] with g_p / h_q, b^i[p] with g_p. Write that as exponents
on the unit sets the tensor touches, +1 on the outgoing axis and −1 on the incoming one. What a group knows of an
exponent is its residue: all of it for positive scales (modulus 0), its parity for signs (modulus 2, 1/h = h), nothing
for permutations alone (modulus 1). A linear map is equivariant exactly if each of its coefficients joins entries of
equal character and the coefficients do not tell apart the units of a set. So, for a pair of tensors, each hidden axis
is either *tied* (same unit on both sides, equal exponents), or left out of the character (exponent 0 in the group) and
then averaged where it is read and repeated where it is written. The outermost axes do not move, so they may be mixed
by full learned matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal

# group -> modulus of its exponents; a group is nothing else to the layers below
GROUPS: Mapping[str, int] = MappingProxyType({"positive_scale": 0, "sign": 2, "permutation": 1})


@dataclass(frozen=True, slots=True, order=True)
class TensorName:
    """One tensor of a chain: layer counts from 1."""

    kind: Literal["weight", "bias"]
    layer: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor: which unit axis of the chain it runs over, and its exponent (0 where nothing moves)."""

    units: int
    exponent: int
    hidden: bool


@dataclass(frozen=True, slots=True)
class Term:
    """One block of an equivariant linear map: `into` gets einsum(equation, learned, `reads`), averaged over `averaged`.

    Letters: b batch, c channels read, d channels written, p and q the axes of `into`, r and s untied axes of `reads`.
    `reads` is None for the constant term.

    Attributes:
        into, reads: tensors written and read.
        equation: einsum of the learned tensor and the tensor read; axes of `into` that the result lacks are repeated.
        learned: unit axes that the learned tensor has beside its channels, in the order of the equation.
        kept: for each axis of `into`, whether the result has it (False: repeated).
        averaged: unit axes that are averaged over.
    """

    into: TensorName
    reads: TensorName | None
    equation: str
    learned: tuple[int, ...]
    kept: tuple[bool, ...]
    averaged: tuple[int, ...]


def tensors_of(depth: int) -> tuple[TensorName, ...]:
    """All tensors of a chain with `depth` layers, weights first."""
    layers = range(1, depth + 1)
    return (*(TensorName("weight", i) for i in layers), *(TensorName("bias", i) for i in layers))


def axes_of(tensor: TensorName, depth: int, modulus: int) -> tuple[Axis, ...]:
    """Axes of a tensor with the exponents that a group of this modulus sees."""

    def axis(units: int, exponent: int) -> Axis:
        hidden = 0 < units < depth
        return Axis(units, _residue(exponent, modulus) if hidden else 0, hidden)

    outgoing = axis(tensor.layer, +1)
    return (outgoing, axis(tensor.layer - 1, -1)) if tensor.kind == "weight" else (outgoing,)


def terms_of(depth: int, group: str) -> tuple[Term, ...]:
    """Every equivariant linear term of a chain with `depth` layers under `group` (a key of GROUPS)."""
    modulus = GROUPS[group]
    tensors = tensors_of(depth)
    terms: list[Term] = []
    for into in tensors:
        written = axes_of(into, depth, modulus)
        for reads in tensors:
            terms += _terms_between(into, written, reads, axes_of(reads, depth, modulus))
        if all(axis.exponent == 0 for axis in written):
            terms.append(_constant(into, written))
    return tuple(terms)


def _residue(exponent: int, modulus: int) -> int:
    return exponent % modulus if modulus else exponent


def _ties(written: tuple[Axis, ...], read: tuple[Axis, ...]) -> Iterator[frozenset[int]]:
    """Sets of unit axes that may be tied; untied hidden axes must not carry a character."""
    shared = sorted({a.units for a in written if a.hidden} & {a.units for a in read if a.hidden})
    exponent_written = {a.units: a.exponent for a in written}
    exponent_read = {a.units: a.exponent for a in read}
    for choice in product((True, False), repeat=len(shared)):
        tied = frozenset(units for units, yes in zip(shared, choice, strict=True) if yes)
        equal = all(exponent_written[units] == exponent_read[units] for units in tied)
        free = all(a.exponent == 0 for a in (*written, *read) if a.hidden and a.units not in tied)
        if equal and free:
            yield tied


def _terms_between(
    into: TensorName, written: tuple[Axis, ...], reads: TensorName, read: tuple[Axis, ...]
) -> Iterator[Term]:
    for tied in _ties(written, read):
        write_letters = dict(zip((a.units for a in written), "pq", strict=False))
        read_letters = {
            a.units: write_letters[a.units] if a.units in tied else fresh for a, fresh in zip(read, "rs", strict=False)
        }
        learned = [(a.units, write_letters[a.units]) for a in written if not a.hidden]
        learned += [(a.units, read_letters[a.units]) for a in read if not a.hidden]
        kept = tuple(not a.hidden or a.units in tied for a in written)
        result = "".join(write_letters[a.units] for a, keep in zip(written, kept, strict=True) if keep)
        operand = "".join(read_letters[a.units] for a in read)
        yield Term(
            into=into,
            reads=reads,
            equation=f"dc{''.join(letter for _, letter in learned)},bc{operand}->bd{result}",
            learned=tuple(units for units, _ in learned),
            kept=kept,
            averaged=tuple(a.units for a in read if a.hidden and a.units not in tied),
        )


def _constant(into: TensorName, written: tuple[Axis, ...]) -> Term:
    letters = [(a.units, letter) for a, letter in zip(written, "pq", strict=False) if not a.hidden]
    text = "".join(letter for _, letter in letters)
    return Term(
        into=into,
        reads=None,
        equation=f"d{text}->d{text}",
        learned=tuple(units for units, _ in letters),
        kept=tuple(not a.hidden for a in written),
        averaged=(),
    )
