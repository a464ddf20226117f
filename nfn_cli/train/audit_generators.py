"""train/audit_generators.py: what an audit does to weights: each kind of group element at each magnitude. No predictor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.extras import applied
from nfn_cli.train.audit_subjects import Subject, Tensors
from nfn_cli.train.moves import OrbitMove, drawn, has

SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Generator:
    """One kind of change at one magnitude.

    Attributes:
        name: of the kind.
        magnitude: how far it goes, in the kind's own unit (see `OrbitMove`); None where there is no such thing.
        applies: whether a network has it.
        moved: a network, how many random members, and randomness -> weights in float64, each computed when it is read.
    """

    name: str
    magnitude: float | None
    applies: Callable[[Subject], bool]
    moved: Callable[[Subject, int, np.random.Generator], Iterator[Tensors]]


def generators_of(subjects: Sequence[Subject], *, largest: float, windings: int, extras: bool) -> tuple[Generator, ...]:
    """Every kind that some of these networks have, each from small to large.

    Args:
        largest: scales go from 1/largest to largest.
        windings: phases go from −windings to windings half periods.
        extras: whether symmetries beyond the monomial group are tried as well.
    """
    found = [group_generator(move) for move in _moves(largest, windings)]
    if extras:
        kinds = dict.fromkeys(extra.kind for subject in subjects for extra in subject.extras)
        found += [Generator(kind, None, partial(_has_extra, kind), partial(_extras_moved, kind)) for kind in kinds]
    return tuple(g for g in found if any(g.applies(subject) for subject in subjects))


def group_generator(move: OrbitMove) -> Generator:
    magnitude = None if move.kind == "all" else move.largest  # of which kind of element, would be the question
    return Generator(move.kind, magnitude, lambda s: has(s.symmetry, move.kind), partial(_group_moved, move))


def _moves(largest: float, windings: int) -> list[OrbitMove]:
    scales, phases = _doubled(2.0, largest), _doubled(1.0, windings)
    magnitudes = {
        "permutation": SHARES,
        "group-exchange": SHARES,
        "scale": scales,
        "power-of-two": tuple(m for m in scales if float(np.log2(m)).is_integer()),
        "sign": SHARES,
        "phase": phases,
        "all": (largest,),
    }
    return [OrbitMove(kind, magnitude) for kind, some in magnitudes.items() for magnitude in some]


def _doubled(start: float, last: float) -> tuple[float, ...]:
    """start, 2·start, 4·start, …, last."""
    found = []
    while start < last:
        found.append(start)
        start *= 2
    return (*found, float(last))


def _group_moved(move: OrbitMove, subject: Subject, count: int, random: np.random.Generator) -> Iterator[Tensors]:
    elements = drawn(subject.symmetry, move, count, random)
    tensors, aliases = subject.checkpoint.tensors, subject.checkpoint.aliases
    for row in range(count):
        yield TransformedTensors(tensors, aliases, subject.symmetry, elements.row(row), np.float64)


def _has_extra(kind: str, subject: Subject) -> bool:
    return any(extra.kind == kind for extra in subject.extras)


def _extras_moved(kind: str, subject: Subject, count: int, random: np.random.Generator) -> Iterator[Tensors]:
    extras = [extra for extra in subject.extras if extra.kind == kind]
    for _ in range(count):
        yield applied(extras, subject.checkpoint.tensors, int(random.integers(1 << 31)))
