"""symmetry/extras/extra.py: one extra symmetry: how large it is and a random member of it. Knows tensors by name; no graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Tensors = Mapping[str, Array]
# Current tensors and a source of randomness -> the tensors that change, float64, in their own shapes.
Member = Callable[[Tensors, np.random.Generator], Mapping[str, FloatArray]]


@dataclass(frozen=True, eq=False)
class Extra:
    """A symmetry beyond the monomial group, or a set of them of one kind and place.

    Attributes:
        kind: short name, the same for all of one sort.
        tensors: what it changes, first the tensor that it makes redundant.
        dimension: continuous directions that it adds to the monomial group and to all other extras.
        log10_order: of its discrete part.
        explanation: one sentence.
        member: a random member; pure.
    """

    kind: str
    tensors: tuple[str, ...]
    dimension: int
    log10_order: float
    explanation: str
    member: Member


class Overlay(Mapping[str, Array]):
    """Tensors with some replaced."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._changed: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        return self._changed[name] if name in self._changed else self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def replaced(self, changed: Mapping[str, Array]) -> None:
        self._changed.update(changed)


def applied(extras: Iterable[Extra], tensors: Tensors, seed: int) -> Overlay:
    """The tensors after a random member of each of `extras`, one after another."""
    overlay = Overlay(tensors)
    for number, extra in enumerate(extras):
        overlay.replaced(extra.member(overlay, np.random.default_rng([seed, number])))
    return overlay


def float64(tensors: Tensors, name: str) -> FloatArray:
    return np.asarray(tensors[name]).astype(np.float64)


def vector(tensors: Tensors, name: str) -> FloatArray:
    """A tensor that is a vector up to axes of length 1: (n,) float64."""
    return float64(tensors, name).reshape(-1)
