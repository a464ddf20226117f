"""symmetry/report.py: what the group of a checkpoint is, how large, and a numerical proof that it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import Any

import numpy as np

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.degenerate import Degenerate, find_degenerate
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.notation import group_name, log10_permutations, log10_two
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.unit_set import UnitSet

SCHEMA = "nfn.symmetry-report/1"
CHECK_TOLERANCE = 1e-8  # float64; a wrong symmetry changes outputs by order 1
_BUFFERS = ("running_mean", "running_var")


@dataclass(frozen=True)
class UnitSetReport:
    """One unit set; unit numbers count from 0 within it."""

    name: str
    size: int
    group: str
    tensors: tuple[tuple[str, int], ...]
    degenerate: Degenerate


@dataclass(frozen=True)
class Check:
    """Largest relative output change under `elements` random group elements, in float64; None where it cannot be run."""

    elements: int
    relative_change: float | None
    passed: bool | None


@dataclass(frozen=True)
class NetworkReport:
    """One network of the checkpoint."""

    name: str
    family: str
    activation: tuple[str, ...]
    activation_source: str
    parameters: int
    continuous_dimension: int
    log10_group_order: float
    infinite_shifts: bool
    unit_sets: tuple[UnitSetReport, ...]
    opaque: tuple[str, ...]
    notes: tuple[str, ...]
    check: Check


@dataclass(frozen=True)
class Report:
    """The whole checkpoint."""

    path: str
    container: str
    networks: tuple[NetworkReport, ...]
    left_aside: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(network.check.passed is not False for network in self.networks)

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of the schema `nfn.symmetry-report/1`."""
        networks = [_network_json(network) for network in self.networks]
        changes = [n["check"]["relative_change"] for n in networks if n["check"]["relative_change"] is not None]
        passed = [network.check.passed for network in self.networks]
        return {
            "schema": SCHEMA,
            "path": self.path,
            "container": self.container,
            "parameters": sum(n["parameters"] for n in networks),
            "effective_parameters": sum(n["effective_parameters"] for n in networks),
            "continuous_dimension": sum(n["continuous_dimension"] for n in networks),
            "log10_group_order": sum(n["log10_group_order"] for n in networks),
            "opaque": [entry for n in networks for entry in n["opaque"]],
            "check": {
                "elements": max((n["check"]["elements"] for n in networks), default=0),
                "relative_change": max(changes, default=None),
                "passed": False if False in passed else None if None in passed else True,
            },
            "networks": networks,
            "left_aside": list(self.left_aside),
        }


def _network_json(network: NetworkReport) -> dict[str, Any]:
    change = network.check.relative_change
    return {
        "name": network.name,
        "family": network.family,
        "activation": list(network.activation),
        "activation_source": network.activation_source,
        "group": " × ".join(unit_set.group for unit_set in network.unit_sets) or "1",
        "parameters": network.parameters,
        "effective_parameters": network.parameters - network.continuous_dimension,
        "continuous_dimension": network.continuous_dimension,
        "log10_group_order": network.log10_group_order,
        "infinite_shifts": network.infinite_shifts,
        "unit_sets": [
            {
                "name": unit_set.name,
                "size": unit_set.size,
                "group": unit_set.group,
                "tensors": [{"tensor": tensor, "axis": axis} for tensor, axis in unit_set.tensors],
                **{key: _lists(value) for key, value in asdict(unit_set.degenerate).items()},
            }
            for unit_set in network.unit_sets
        ],
        "opaque": list(network.opaque),
        "notes": list(network.notes),
        "check": asdict(network.check) | {"relative_change": change if change is None or isfinite(change) else None},
    }


def _lists(value: Any) -> Any:
    return [_lists(entry) for entry in value] if isinstance(value, tuple) else value


def symmetry_report(checkpoint: Checkpoint, networks: Sequence[Network], *, seed: int = 0, elements: int = 3) -> Report:
    """Find the group of a checkpoint's networks, measure it, and test it with random elements.

    Args:
        seed: for the random elements and inputs.
        elements: how many random group elements the check tries.

    Raises:
        Refused: weights are not finite, or shapes disagree.
    """
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    symmetry = find_symmetry(networks, checkpoint.aliases)
    degenerate = find_degenerate(symmetry, checkpoint.tensors)
    moved = [
        TransformedTensors(
            checkpoint.tensors, checkpoint.aliases, symmetry, random_flat(symmetry, seed + i), np.float64
        )
        for i in range(elements)
    ]
    reports = []
    for number, network in enumerate(networks):
        sets = [
            (unit_set, found)
            for unit_set, found in zip(symmetry.unit_sets, degenerate, strict=True)
            if unit_set.network == number
        ]
        order = log10_permutations([s for s, _ in sets])
        order += sum(log10_two(_classes(symmetry, s, "sign")) for s, _ in sets)
        reports.append(
            NetworkReport(
                network.name,
                network.family,
                network.activation,
                network.activation_source,
                _parameters(network),
                sum(_classes(symmetry, s, "scale") for s, _ in sets),
                order,
                any(s.families["shift"] for s, _ in sets),
                tuple(UnitSetReport(s.name, s.size, group_name(s), s.touches, found) for s, found in sets),
                symmetry.opaque[number],
                network.notes,
                _check(network, checkpoint, moved, seed),
            )
        )
    return Report(checkpoint.path, checkpoint.container, tuple(reports), checkpoint.left_aside)


def _check(network: Network, checkpoint: Checkpoint, moved: Sequence[TransformedTensors], seed: int) -> Check:
    try:
        before = outputs(network, checkpoint.tensors, seed)
        change = max((relative_change(before, outputs(network, view, seed)) for view in moved), default=0.0)
    except NfnError:
        return Check(0, None, None)
    return Check(len(moved), change, change <= CHECK_TOLERANCE)


def _classes(symmetry: Symmetry, unit_set: UnitSet, kind: str) -> int:
    start = symmetry.starts[kind][symmetry.unit_sets.index(unit_set)]
    return len(np.unique(symmetry.classes[kind][start : start + unit_set.families[kind] * unit_set.size]))


def _parameters(network: Network) -> int:
    """Trained numbers: every tensor of the graph once, without batch norm's statistics."""
    buffers = {name for op in network.graph.ops for role, name in op.parameters.items() if role in _BUFFERS}
    return sum(prod(shape) for name, shape in network.graph.parameter_shapes.items() if name not in buffers)
