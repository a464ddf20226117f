"""zoo/family.py: the networks of a zoo that have one graph, their tensors stacked. Knows arrays; opens no file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from nfn_cli.graph.model import Graph

Array = np.ndarray[Any, np.dtype[Any]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


class TensorSource(Protocol):
    """Where the tensors of some networks of one graph lie."""

    def __len__(self) -> int:
        """Number of networks."""

    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""

    def read(self, names: Sequence[str], places: IntArray) -> dict[str, Array]:
        """Name -> (len(places), *shape). Views of a memory map where the places allow it."""


@dataclass(frozen=True)
class StackedTensors:
    """Tensors that lie stacked, as a rule in a memory map: name -> (n, *shape)."""

    arrays: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def names(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    def read(self, names: Sequence[str], places: IntArray) -> dict[str, Array]:
        picked = _as_slice(places)
        return {name: self.arrays[name][places if picked is None else picked] for name in names}


@dataclass(frozen=True)
class Family:
    """Networks of one graph.

    Attributes:
        name: unique in the zoo.
        graph: of each of them; its parameters are named as in `tensors`.
        rows: (n,) numbers of these networks in the zoo.
        places: (n,) numbers of these networks in the sources, counted through.
        sources: where the tensors lie.
    """

    name: str
    graph: Graph
    rows: IntArray
    places: IntArray
    sources: tuple[TensorSource, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors."""
        return self.sources[0].names()

    def tensors(
        self, names: Sequence[str] | None = None, rows: IntArray | slice | Sequence[int] | None = None
    ) -> dict[str, Array]:
        """Tensors of some networks: name -> (n, *shape).

        Args:
            names: which tensors; all by default.
            rows: positions within the family (0 is `self.rows[0]`); all by default.

        Returns:
            Read-only views of a memory map where the rows lie in one piece in one file, copies elsewhere.
        """
        names = self.names if names is None else tuple(names)
        places = self.places if rows is None else self.places[rows if isinstance(rows, slice) else np.asarray(rows)]
        starts = np.cumsum([0, *(len(source) for source in self.sources)])
        of = np.searchsorted(starts, places, side="right") - 1
        used = np.unique(of)
        if len(used) <= 1:
            source = int(used[0]) if len(used) else 0
            return self.sources[source].read(names, places - starts[source])
        out: dict[str, Array] = {}
        for source in used:
            here = np.flatnonzero(of == source)
            for name, part in self.sources[source].read(names, places[here] - starts[source]).items():
                if name not in out:
                    out[name] = np.empty((len(places), *part.shape[1:]), part.dtype)
                out[name][here] = part
        return out

    def kept(self, new_rows: IntArray) -> Family:
        """The family within a selection of the zoo: `new_rows[old]` is the new number, −1 for rows that are gone."""
        rows = new_rows[self.rows]
        keep = np.flatnonzero(rows >= 0)
        keep = keep[np.argsort(rows[keep], kind="stable")]
        return replace(self, rows=rows[keep], places=self.places[keep])


def _as_slice(places: IntArray) -> slice | None:
    """The slice that gives these places, if one does."""
    if not len(places):
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 == len(places) and bool((np.diff(places) == 1).all()):
        return slice(first, last + 1)
    return None
