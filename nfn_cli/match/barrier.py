"""match/barrier.py: loss along the straight line between two networks, before and after alignment, as values and as JSON.

Runs nothing: what was measured comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from nfn_cli.errors import WrongUsage

SCHEMA = "nfn.barrier/1"


def shares_of(points: int) -> tuple[float, ...]:
    """Evenly from 0 to 1.

    Raises:
        WrongUsage: no point between the ends.
    """
    if points < 3:
        raise WrongUsage("a line needs three points or more")
    return tuple(point / (points - 1) for point in range(points))


@dataclass(frozen=True)
class Performance:
    """What one network does on the data: loss, and accuracy where there are classes."""

    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class Curve:
    """Networks from one end of a line to the other.

    Attributes:
        shares: part of the second network in each, rising from 0 to 1.
        points: what each of them does.
    """

    shares: tuple[float, ...]
    points: tuple[Performance, ...]

    @property
    def barrier(self) -> float:
        """Largest loss above the straight line between those of the ends, not less than 0; infinite where one is not finite."""
        return _above([point.loss for point in self.points], self.shares)

    @property
    def accuracy_lost(self) -> float | None:
        """Largest accuracy below the straight line between those of the ends; None without classes."""
        found = [point.accuracy for point in self.points if point.accuracy is not None]
        return _above([-accuracy for accuracy in found], self.shares) if len(found) == len(self.points) else None

    def as_json(self) -> dict[str, Any]:
        accuracies = [point.accuracy for point in self.points]
        return {
            "loss": [point.loss for point in self.points],
            "accuracy": None if None in accuracies else accuracies,
            "barrier": self.barrier,
            "accuracy_lost": self.accuracy_lost,
        }


def _above(values: Sequence[float], shares: Sequence[float]) -> float:
    if not all(isfinite(value) for value in values):
        return inf
    first, last = values[0], values[-1]
    lines = [(1 - share) * first + share * last for share in shares]
    return max([0.0, *(value - line for value, line in zip(values, lines, strict=True))])


@dataclass(frozen=True)
class Curves:
    """The curves of one network of the checkpoints.

    Attributes:
        name: of the network.
        loss: which loss it is.
        inputs: how many were run.
        batches: in how many parts batch norm statistics were measured; None where they were averaged or there are none.
        naive: on the line between the weights as they are.
        aligned: on the line from the first to the second in the frame of the first.
    """

    name: str
    loss: str
    inputs: int
    batches: int | None
    naive: Curve
    aligned: Curve

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "not_run": None,
            "loss": self.loss,
            "inputs": self.inputs,
            "batch_norm_batches": self.batches,
            "naive": self.naive.as_json(),
            "aligned": self.aligned.as_json(),
        }


@dataclass(frozen=True)
class NotRun:
    """Why there are no curves of one network."""

    name: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        nothing = dict.fromkeys(("loss", "inputs", "batch_norm_batches", "naive", "aligned"))
        return {"name": self.name, "not_run": self.reason, **nothing}


@dataclass(frozen=True)
class Barrier:
    """What stands between two networks.

    Attributes:
        shares: part of the second network at each point.
        networks: curves of each network of the checkpoints.
        objective, start, distance: of the alignment; see `match.align.Aligned`.
    """

    shares: tuple[float, ...]
    networks: tuple[Curves | NotRun, ...]
    objective: float
    start: float
    distance: float

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of the schema; a number that is not finite becomes null when it is written."""
        return {
            "shares": list(self.shares),
            "objective": self.objective,
            "start": self.start,
            "distance": self.distance,
            "networks": [network.as_json() for network in self.networks],
        }
