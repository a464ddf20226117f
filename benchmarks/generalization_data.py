"""benchmarks/generalization_data.py: one zoo, split by run, its held-out networks moved along their orbits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.weight_features import WeightFeatures
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.train.orbit import OrbitMove, moved, moves_for
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.split import split_of_run

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rows:
    """Networks of one graph.

    Attributes:
        activation: as the zoo spells it.
        graph: of each of them; its parameters are named as in `tensors`.
        tensors: name -> (n, *shape) float32, from the input to the output, each weight with its bias.
    """

    activation: str
    graph: Graph
    tensors: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def take(self, rows: Any) -> Rows:
        """Some of them: a mask, indices or a slice."""
        return replace(self, tensors={name: array[rows] for name, array in self.tensors.items()})

    @cached_property
    def features(self) -> WeightFeatures:
        """The same as weight features; kernel positions and flattened pixels are channels."""
        weights, biases = [], []
        for name, array in self.tensors.items():
            values = torch.from_numpy(np.ascontiguousarray(array))
            if name.endswith("bias"):
                biases.append(values[:, None])
                continue
            width = weights[-1].shape[2] if weights else values.shape[2]
            weights.append(values.reshape(*values.shape[:2], width, -1).permute(0, 3, 1, 2).contiguous())
        return WeightFeatures(tuple(weights), tuple(biases))


@dataclass(frozen=True)
class Split:
    """All checkpoints of the runs to learn from; the last checkpoints of the held-out ones."""

    train: Rows
    target: Array
    test: Rows
    actual: Array
    symmetry: Symmetry

    @property
    def moves(self) -> dict[str, OrbitMove | None]:
        """What is done to the held-out networks before they are shown, by name."""
        return {"untouched": None, **{_in_words(move): move for move in moves_for(self.symmetry)}}

    def thinned(self, rows: int) -> Split:
        """The first few networks of each side."""
        few = slice(rows)
        return replace(
            self,
            train=self.train.take(few),
            target=self.target[few],
            test=self.test.take(few),
            actual=self.actual[few],
        )

    def moved_test(self, move: OrbitMove | None, seed: int) -> Rows:
        """The held-out networks, each replaced by a random member of its orbit, rounded to float32 as in a file."""
        if move is None:
            return self.test
        tensors = moved(self.test.graph, self.symmetry, self.test.tensors, move, seed)
        return replace(self.test, tensors=tensors)


def load_split(folder: str, activation: str, test_fraction: float = 0.15, seed: int = 0) -> Split:
    """Reads the networks of one activation.

    Raises:
        Refused: they are not all of one graph.
    """
    every = open_zoo(folder, activation=activation, final_only=False)
    final = open_zoo(folder, activation=activation)
    train, target = rows_of(every.where(~split_of_run(every.runs, test_fraction, seed)), activation)
    test, actual = rows_of(final.where(split_of_run(final.runs, test_fraction, seed)), activation)
    return Split(train, target, test, actual, find_symmetry([final.network(0)]))


def rows_of(zoo: Zoo, activation: str) -> tuple[Rows, Array]:
    """Networks and test accuracies; rows with a weight or a score that is not finite are left out.

    Raises:
        Refused: they are not all of one graph.
    """
    if len(zoo.families) != 1:
        raise Refused(
            f"{len(zoo.families)} architectures with {activation}, this benchmark takes one", where=zoo.folder
        )
    family = zoo.families[0]
    tensors, scores = family.tensors(), zoo.numbers("test_accuracy")[family.rows]
    finite = np.isfinite(scores)
    for array in tensors.values():
        finite &= np.isfinite(array).reshape(len(array), -1).all(1)
    return Rows(activation, family.graph, tensors).take(finite), scores[finite]


def _in_words(move: OrbitMove) -> str:
    if move.kind == "uniform-scale":
        return f"scales U[1, {move.largest:g}]"
    return {"sign": "random signs", "permutation": "permutations"}.get(move.kind, move.kind)
