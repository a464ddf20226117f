"""match/merge_result.py: a merged network, what it was made of and what it does, as values and as JSON. Aligns and runs nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.match.barrier import Performance
from nfn_cli.match.merge_average import Tensors, stored

SCHEMA = "nfn.merge/1"


@dataclass(frozen=True)
class Member:
    """One network in the frame of the first.

    Attributes:
        path: of its checkpoint.
        weight: its part of the mean; all sum to 1.
        tensors: in the frame of the first, under the first one's names.
        objective: squared distance to the first, both in the balanced frame of the first.
        start: the same before alignment: in its own balanced form, its units in the order they were given.
        distance: see `match.comparison.Comparison`; to the first.
        units, moved: how many units there are, and how many of them took another place.
        relative_change, tolerance: how far its outputs moved by the alignment, and might have.
    """

    path: str
    weight: float
    tensors: Tensors
    objective: float
    start: float
    distance: float
    units: int
    moved: int
    relative_change: float
    tolerance: float


@dataclass(frozen=True)
class OnData:
    """What one network of the checkpoints does on data.

    Attributes:
        name: of the network.
        not_run: why it was not run; then all else is None.
        loss: which loss it is; None without labels.
        inputs: how many were run.
        batches: in how many parts batch norm statistics were measured; None if they were not.
        members, merged: loss and accuracy of each member as it is, and of the mean.
    """

    name: str
    not_run: str | None
    loss: str | None
    inputs: int | None
    batches: int | None
    members: tuple[Performance, ...] | None
    merged: Performance | None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "not_run": self.not_run,
            "loss": self.loss,
            "inputs": self.inputs,
            "batch_norm_batches": self.batches,
            "members": None if self.members is None else [asdict(each) for each in self.members],
            "merged": None if self.merged is None else asdict(self.merged),
        }


@dataclass(frozen=True)
class Merged:
    """The result; nothing is written.

    Attributes:
        checkpoint: the mean, in the frame, the container and the element types of the first.
        members: what it is the mean of.
        spread: Σ weight · ‖member − mean‖² in the balanced frame of the first: when all were aligned to the first, and
            after each round to the mean of the others; it never increases.
        notes: what the user should know.
        on_data: for each network what it does on data, where there are some.
    """

    checkpoint: Checkpoint
    members: tuple[Member, ...]
    spread: tuple[float, ...]
    notes: tuple[str, ...]
    on_data: tuple[OnData, ...] = ()

    def with_statistics(self, measured: Tensors, on_data: tuple[OnData, ...]) -> Merged:
        """The same with batch norm statistics that were measured, in the element types of the first.

        Raises:
            Refused: one is too large for its type (code "overflow").
        """
        tensors = self.checkpoint.tensors
        shaped = {name: array.reshape(tensors[name].shape) for name, array in measured.items()}
        return replace(self, checkpoint=self.checkpoint.with_tensors(stored(shaped, tensors)), on_data=on_data)

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of the schema."""
        return {
            "spread": list(self.spread),
            "members": [
                {
                    "path": member.path,
                    "weight": member.weight,
                    "start": member.start,
                    "objective": member.objective,
                    "distance": member.distance,
                    "units": member.units,
                    "moved": member.moved,
                    "relative_change": member.relative_change,
                    "tolerance": member.tolerance,
                }
                for member in self.members
            ],
            "networks": [each.as_json() for each in self.on_data],
            "notes": list(self.notes),
        }
