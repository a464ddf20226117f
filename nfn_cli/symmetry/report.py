"""symmetry/report.py: what the group of a checkpoint is, how large, and a numerical proof that it is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import Tensors, outputs, relative_change
from nfn_cli.symmetry.degenerate import Degenerate, find_degenerate
from nfn_cli.symmetry.element import FlatElement, random_flat
from nfn_cli.symmetry.extras import Extra, ExtrasReport, Proof, applied, extras_report, find_extras, proved, survey
from nfn_cli.symmetry.notation import group_name, log10_permutations, log10_two
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.unit_set import UnitSet

SCHEMA = "nfn.symmetry-report/1"
CHECK_TOLERANCE = 1e-8  # float64; a wrong symmetry changes outputs by order 1
# Where rounding the weights alone moves the outputs by a thousandth of what an element does, the element is not what did it.
_ROUNDINGS = 1e3
_BUFFERS = ("running_mean", "running_var")


@dataclass(frozen=True)
class UnitSetReport:
    """One unit set; unit numbers count from 0 within it.

    Attributes:
        windings: the largest number of phase shifts by which a bias is away from its fundamental interval; None where
            there are no phase shifts.
    """

    name: str
    size: int
    group: str
    tensors: tuple[tuple[str, int], ...]
    degenerate: Degenerate
    windings: int | None


@dataclass(frozen=True)
class Check:
    """Largest relative output change under `elements` random group elements, in float64.

    None where the network cannot be run, its outputs are no numbers, or rounding alone moves them about as far.
    """

    elements: int
    relative_change: float | None
    passed: bool | None


@dataclass(frozen=True)
class NetworkReport:
    """One network of the checkpoint.

    Attributes:
        omega: of every activation that has a frequency, in the order of the network; None where it is not known.
    """

    name: str
    family: str
    activation: tuple[str, ...]
    activation_source: str
    omega: tuple[float | None, ...]
    parameters: int
    continuous_dimension: int
    log10_group_order: float
    infinite_shifts: bool
    unit_sets: tuple[UnitSetReport, ...]
    opaque: tuple[str, ...]
    notes: tuple[str, ...]
    check: Check
    extras: ExtrasReport


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
        return {
            "schema": SCHEMA,
            "path": self.path,
            "container": self.container,
            "parameters": sum(n["parameters"] for n in networks),
            "effective_parameters": sum(n["effective_parameters"] for n in networks),
            "continuous_dimension": sum(n["continuous_dimension"] for n in networks),
            "log10_group_order": sum(n["log10_group_order"] for n in networks),
            "extras": {
                "dimension": sum(n["extras"]["dimension"] for n in networks),
                "log10_order": sum(n["extras"]["log10_order"] for n in networks),
                "effective_parameters": sum(n["extras"]["effective_parameters"] for n in networks),
                "passed": _all(network.extras.passed for network in self.networks),
            },
            "opaque": [entry for n in networks for entry in n["opaque"]],
            "check": {
                "elements": max((n["check"]["elements"] for n in networks), default=0),
                "relative_change": max(changes, default=None),
                "passed": _all(network.check.passed for network in self.networks),
            },
            "networks": networks,
            "left_aside": list(self.left_aside),
        }


def _all(answers: Iterable[bool | None]) -> bool | None:
    """No where one says no, unknown where one does not know."""
    given = list(answers)
    return False if False in given else None if None in given else True


def _network_json(network: NetworkReport) -> dict[str, Any]:
    change = network.check.relative_change
    return {
        "name": network.name,
        "family": network.family,
        "activation": list(network.activation),
        "activation_source": network.activation_source,
        "omega": list(network.omega),
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
                "windings": unit_set.windings,
                "tensors": [{"tensor": tensor, "axis": axis} for tensor, axis in unit_set.tensors],
                **{key: _lists(value) for key, value in asdict(unit_set.degenerate).items() if key != "log10_ratios"},
            }
            for unit_set in network.unit_sets
        ],
        "extras": network.extras.as_json(),
        "opaque": list(network.opaque),
        "notes": list(network.notes),
        "check": asdict(network.check) | {"relative_change": change if change is None or isfinite(change) else None},
    }


def _lists(value: Any) -> Any:
    return [_lists(entry) for entry in value] if isinstance(value, tuple) else value


def symmetry_report(checkpoint: Checkpoint, networks: Sequence[Network], *, seed: int = 0, elements: int = 3) -> Report:
    """Find the group of a checkpoint's networks and what is beyond it, measure both, and test them with random elements.

    Args:
        seed: for the random elements and inputs.
        elements: how many random group elements the check tries.

    Raises:
        Refused: weights are not finite, or shapes disagree.
    """
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    symmetry = find_symmetry(networks, checkpoint.aliases)
    degenerate = find_degenerate(symmetry, networks, checkpoint.tensors, checkpoint.aliases)
    extras = [
        find_extras(survey(network, networks, checkpoint.tensors, checkpoint.aliases, symmetry)) for network in networks
    ]
    windings = _windings(symmetry, checkpoint.tensors)
    trial = _Trial(checkpoint, symmetry, [extra for found in extras for extra in found], seed, elements)
    reports = []
    for number, network in enumerate(networks):
        sets = [
            (unit_set, found)
            for unit_set, found in zip(symmetry.unit_sets, degenerate, strict=True)
            if unit_set.network == number
        ]
        order = log10_permutations([s for s, _ in sets])
        order += log10_two(len(_classes(symmetry, [s for s, _ in sets], "sign")))
        scales = len(_classes(symmetry, [s for s, _ in sets], "scale"))
        trained, statistics = _parameters(network)
        check, proof = trial.run(network, extras[number])
        reports.append(
            NetworkReport(
                network.name,
                network.family,
                network.activation,
                network.activation_source,
                _frequencies(network),
                trained,
                scales,
                order,
                any(s.families["shift"] for s, _ in sets),
                tuple(
                    UnitSetReport(s.name, s.size, group_name(s), s.touches, found, windings.get(s.name))
                    for s, found in sets
                ),
                symmetry.opaque[number],
                network.notes,
                check,
                extras_report(proof, trained, statistics, scales),
            )
        )
    return Report(checkpoint.path, checkpoint.container, tuple(reports), checkpoint.left_aside)


class _Trial:
    """Random elements of the monomial group, the last of them together with a random member of every extra."""

    def __init__(
        self, checkpoint: Checkpoint, symmetry: Symmetry, extras: Sequence[Extra], seed: int, elements: int
    ) -> None:
        tensors, aliases = checkpoint.tensors, checkpoint.aliases
        flat = [random_flat(symmetry, seed + i) for i in range(elements)]

        def moved(start: Tensors, element: FlatElement) -> Tensors:
            return TransformedTensors(start, aliases, symmetry, element, np.float64)

        self._tensors, self._seed = tensors, seed
        self._monomial = [moved(tensors, element) for element in flat]
        together = applied(extras, tensors, seed)
        self._tried = [*self._monomial[:-1], moved(together, flat[-1]) if flat else together]

    def run(self, network: Network, extras: Sequence[Extra]) -> tuple[Check, Proof]:
        """One run for each element. Only where one changes the outputs, the extras are tried apart from the group."""
        try:
            before = outputs(network, self._tensors, self._seed)

            def change(tensors: Tensors) -> float:
                return relative_change(before, outputs(network, tensors, self._seed))

            changes = [change(tensors) for tensors in self._tried]
            proof = Proof(tuple(extras), (), changes[-1])
            if max(changes) > CHECK_TOLERANCE:
                changes = [change(tensors) for tensors in self._monomial]
                defined = isfinite(change(self._tensors))
                worst = max(changes, default=0.0)
                if not defined or CHECK_TOLERANCE < worst < _ROUNDINGS * change(self._rounded()):
                    changes = []
                if defined:
                    proof = proved(extras, self._tensors, self._seed, change, CHECK_TOLERANCE)
                else:  # outputs that are no numbers refute nothing
                    proof = Proof(tuple(extras), (), None)
        except NfnError:
            return Check(0, None, None), Proof(tuple(extras), (), None)
        if self._monomial and not changes:
            return Check(0, None, None), proof
        worst = max(changes, default=0.0) if self._monomial else 0.0
        return Check(len(self._monomial), worst, worst <= CHECK_TOLERANCE), proof

    def _rounded(self) -> Tensors:
        """The weights as they are, each number moved by one step of float64."""
        random = np.random.default_rng(self._seed)
        found = {}
        for name, tensor in self._tensors.items():
            if is_floating(tensor.dtype):
                wide = np.asarray(tensor, np.float64)
                found[name] = wide * (1 + np.finfo(np.float64).eps * random.choice([-1.0, 1.0], wide.shape))
            else:
                found[name] = tensor
        return found


def _frequencies(network: Network) -> tuple[float | None, ...]:
    waves = [
        op.attributes.get("omega")
        for op in network.graph.ops
        if op.kind == "pointwise" and getattr(ACTIVATIONS.get(op.attributes["function"]), "frequency", False)
    ]
    return tuple(None if omega is None else float(omega) for omega in waves)


def _windings(symmetry: Symmetry, tensors: Tensors) -> dict[str, int]:
    """Name of unit set -> |k| of the phase count k that leads farthest, of all that lead into fundamental intervals."""
    far = np.zeros(len(symmetry.classes["shift"]))
    for name, actions in symmetry.actions.items():
        for action in actions:
            if action.phase:
                use = action.shift >= 0
                bias = np.asarray(tensors[name]).reshape(-1).astype(np.float64)[use]
                far[action.shift[use]] = np.abs(np.floor(bias / action.phase + 0.5))
    out = {}
    for unit_set, start in zip(symmetry.unit_sets, symmetry.starts["shift"], strict=True):
        count = unit_set.families["shift"] * unit_set.size
        if count:
            out[unit_set.name] = int(far[start : start + count].max())
    return out


def _classes(symmetry: Symmetry, unit_sets: Sequence[UnitSet], kind: str) -> set[int]:
    """Numbers of the independent magnitudes (signs) of some unit sets; sets may share them."""
    found: set[int] = set()
    for unit_set in unit_sets:
        start = symmetry.starts[kind][symmetry.unit_sets.index(unit_set)]
        found.update(symmetry.classes[kind][start : start + unit_set.families[kind] * unit_set.size].tolist())
    return found


def _parameters(network: Network) -> tuple[int, int]:
    """Trained numbers (every tensor of the graph once) and entries of batch norm's statistics."""
    shapes = network.graph.parameter_shapes
    buffers = {name for op in network.graph.ops for role, name in op.parameters.items() if role in _BUFFERS}
    statistics = sum(prod(shapes[name]) for name in buffers)
    return sum(prod(shape) for shape in shapes.values()) - statistics, statistics
