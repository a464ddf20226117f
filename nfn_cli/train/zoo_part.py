"""train/zoo_part.py: networks of one graph in memory, as every training reads them from zoos. Knows zoo/; no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph
from nfn_cli.zoo.family import Family

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Part:
    """Networks of one graph.

    Attributes:
        graph: of each of them.
        tensors: name -> (n, *shape).
        rows: (n,) their places in the data.
    """

    graph: Graph
    tensors: Mapping[str, Array]
    rows: Array

    def __len__(self) -> int:
        return len(self.rows)


def read_part(family: Family, start: int) -> tuple[Part, Array]:
    """The tensors that the graph of a family uses, in float32, and (n,) whether each network is finite.

    Args:
        start: place in the data of the first row of the family's zoo.
    """
    used = sorted({name for op in family.graph.ops for name in op.parameters.values()})
    tensors = {name: np.asarray(array, np.float32) for name, array in family.tensors(used).items()}
    finite = [np.isfinite(array.reshape(len(family), -1)).all(1) for array in tensors.values()]
    return Part(family.graph, tensors, family.rows + start), np.asarray(np.logical_and.reduce(finite))


def kept_parts(parts: Sequence[Part], keep: Array) -> tuple[Part, ...]:
    """The networks for whose places `keep` (bool) holds, places numbered anew in their order."""
    new = np.cumsum(keep) - 1
    kept = []
    for part in parts:
        mine = np.flatnonzero(keep[part.rows])
        if len(mine):
            tensors = {name: array[mine] for name, array in part.tensors.items()}
            kept.append(Part(part.graph, tensors, new[part.rows[mine]]))
    return tuple(kept)
