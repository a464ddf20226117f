"""match/diff_model.py: what a comparison of two networks says: of units, of layers, of tensors. Plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What may have become of a unit.
STATUSES = ("same", "changed", "split", "merged", "added", "removed", "died", "revived", "dead")


@dataclass(frozen=True, slots=True)
class UnitChange:
    """What became of a unit; every unit of both networks stands in exactly one of these.

    Attributes:
        units, other_units: its numbers in the left and in the right network's set. Several: units that repeat each other.
        status: "same": what feeds it agrees within the tolerance, up to the group. "changed": it does not. "split": one
            unit's function is that of several, or nearly: what feeds those differs by less than a tenth. "merged": the
            reverse. "added", "removed": it has no counterpart. "died": something depends on it in the left network only;
            "revived": in the right one only; "dead": in neither.
        moved: whether it stands at another place.
        distance: between what feeds the two (incoming weights, bias, norm) over its size, where both have it; None without
            a counterpart or where nothing depends on it.
        outgoing: the same for the weights that read it.
    """

    units: tuple[int, ...]
    other_units: tuple[int, ...]
    status: str
    moved: bool
    distance: float | None
    outgoing: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "units": list(self.units),
            "other_units": list(self.other_units),
            "status": self.status,
            "moved": self.moved,
            "distance": self.distance,
            "outgoing": self.outgoing,
        }


@dataclass(frozen=True, slots=True)
class SetDifference:
    """One unit set.

    Attributes:
        name: as in the symmetry report of the left checkpoint.
        sizes: units in the left and in the right network.
        distance: between what feeds the units that both have; None without such units.
        units: in the order of the left network, added ones last.
    """

    name: str
    sizes: tuple[int, int]
    distance: float | None
    units: tuple[UnitChange, ...]

    def counts(self) -> dict[str, int]:
        found = Counter(unit.status for unit in self.units)
        return {status: found[status] for status in STATUSES}

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.sizes[0],
            "other_size": self.sizes[1],
            "distance": self.distance,
            "counts": self.counts(),
            "moved": sum(unit.moved for unit in self.units),
            "units": [unit.as_json() for unit in self.units],
        }


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """One tensor after alignment, over the units that both networks have.

    Attributes:
        names, shapes: in the left and in the right checkpoint.
        distance: Euclidean, over the root mean square of both norms.
        residual: see `match.comparison.Comparison`.
    """

    names: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    distance: float
    residual: float

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.names[0],
            "other_name": self.names[1],
            "shape": list(self.shapes[0]),
            "other_shape": list(self.shapes[1]),
            "distance": self.distance,
            "residual": self.residual,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """The answer.

    Attributes:
        equivalent: whether a group element brings the left weights to the right ones within `tolerance`.
        distance: of all tensors, each counted by its number of entries.
        tolerance: the residual that counts as none.
        notes: what the user should know.
    """

    equivalent: bool
    distance: float
    tolerance: float
    unit_sets: tuple[SetDifference, ...]
    tensors: tuple[TensorDifference, ...]
    notes: tuple[str, ...]

    def counts(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for unit_set in self.unit_sets:
            found.update(unit_set.counts())
        return {status: found[status] for status in STATUSES}

    def as_json(self, path: str, other: str) -> dict[str, Any]:
        return {
            "schema": "nfn.diff/1",
            "path": path,
            "other": other,
            "equivalent": self.equivalent,
            "distance": self.distance,
            "tolerance": self.tolerance,
            "counts": self.counts(),
            "unit_sets": [unit_set.as_json() for unit_set in self.unit_sets],
            "tensors": [tensor.as_json() for tensor in self.tensors],
            "notes": list(self.notes),
        }
