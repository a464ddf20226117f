"""match/fingerprint_plan.py: what fingerprints need to know of a graph, once for all networks that have it. No weights, no file.

Every tensor is seen as a stack of matrices (groups, A, B, K): its first acted axis (by group), its second, and all other
entries. Nothing here depends on a name: tensors stand in the order in which the ops read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.printable import printable
from nfn_cli.symmetry.axis import IntArray, mix
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry, find_symmetry

Array = np.ndarray[Any, np.dtype[Any]]
_HELD_ENTRIES = 1 << 22


@dataclass(frozen=True, eq=False)
class Slots:
    """One axis of a tensor.

    Attributes:
        classes: (J, n) scale classes of each slot; the number of classes stands for "fixed".
        coefficient: (J, n) the slot is multiplied by exp(Σ_j coefficient[j] · x[classes[j]]).
        unit: (n,) flat number of the unit that may move the slot; the number of units for slots that stay.
        fixed: (n,) numbers in [0.5, 1.5) that tell slots that stay apart; 1 for others.
        moves: whether any slot moves.
    """

    classes: IntArray
    coefficient: FloatArray
    unit: IntArray
    fixed: FloatArray
    moves: bool

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, eq=False)
class TensorPlan:
    """How one tensor is read.

    Attributes:
        name: in the checkpoint.
        shape: of the tensor.
        order: its axes in the order (A, B, others).
        groups: of a grouped convolution; its columns then have groups · B slots.
        rows, columns: slots of A and B.
        spread: (K,) weights of the other entries, by position where these stay.
        variance: a batch norm's variance, whose scale is settled in closed form; `offset` is its ε.
        signed: whether signs act, so that only magnitudes mean something.
        periods: (A,) π/ω where phase counts act on the slot, else 0; None where none do.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    groups: int
    rows: Slots
    columns: Slots
    spread: FloatArray
    variance: bool
    offset: float
    signed: bool
    periods: FloatArray | None

    @property
    def matrix(self) -> tuple[int, int, int, int]:
        """(groups, A in a group, B, K)."""
        return self.groups, len(self.rows) // self.groups, len(self.columns) // self.groups, len(self.spread)


@dataclass(frozen=True, eq=False)
class FingerprintPlan:
    """What all networks of one graph share.

    Attributes:
        architecture: 16 hexadecimal digits of a hash of shapes, unit sets and functions; no names.
        tensors: in the order in which the ops read them.
        classes, units: how many there are.
        family: (classes + 1,) number of the family of each scale class in the order of the network, −1 for "fixed".
        unit_sets: (start, size) of those whose units change places.
    """

    architecture: str
    tensors: tuple[TensorPlan, ...]
    classes: int
    units: int
    family: IntArray
    unit_sets: tuple[tuple[int, int], ...]

    @cached_property
    def large(self) -> frozenset[str]:
        """Tensors of which not even one entry per pair of slots is kept in memory: what a budget leaves over, smallest first."""
        left, large = _HELD_ENTRIES, set()
        for tensor in sorted(self.tensors, key=lambda t: prod(t.matrix[:3])):
            left -= prod(tensor.matrix[:3])
            if left < 0 and tensor.groups == 1:
                large.add(tensor.name)
        return frozenset(large)


def plan_of(networks: Sequence[Network], aliases: Mapping[str, str] | None = None) -> FingerprintPlan:
    """Read the graphs.

    Raises:
        Refused: shapes disagree, or a tensor has more than two axes with scales.
    """
    aliases = aliases or {}
    symmetry = find_symmetry(networks, aliases)
    shapes = {name: tuple(shape) for network in networks for name, shape in network.graph.parameter_shapes.items()}
    places: dict[str, tuple[int, ...]] = {}
    for network in networks:
        for op in network.graph.ops:
            for role, name in op.parameters.items():
                known = aliases.get(name, name)
                ends = (op.attributes.get("out_axis"), op.attributes.get("in_axis"))
                made_by_layer = role == "weight" and op.kind in ("linear", "conv") and None not in ends
                places.setdefault(known, tuple(int(e) for e in ends if e is not None) if made_by_layer else ())
    tensors = tuple(
        _tensor(name, shapes[name], first, number, symmetry) for number, (name, first) in enumerate(places.items())
    )
    return FingerprintPlan(
        _architecture(networks, symmetry, tensors),
        tensors,
        _classes(symmetry),
        symmetry.units,
        _families(symmetry),
        tuple((s.start, s.size) for s in symmetry.unit_sets if s.permutable),
    )


def _tensor(name: str, shape: tuple[int, ...], first: tuple[int, ...], number: int, symmetry: Symmetry) -> TensorPlan:
    shape = shape or (1,)
    actions = symmetry.actions.get(name, ())
    groups = max((action.groups for action in actions), default=1)
    scaled = sorted({a.dim for a in actions if a.scaled})
    acted = [*scaled, *sorted({a.dim for a in actions} - set(scaled))]
    if len(scaled) > 2:
        raise Refused("more than two of its axes have scales", where=printable(name), code="no-fingerprint")
    # a layer's weight is read outputs first, however the file stores it
    ends = list(dict.fromkeys([*sorted(acted[:2]), *range(len(shape))]))[:2]
    if groups == 1 and set(first) == set(ends):
        ends = list(first)
    others = [axis for axis in range(len(shape)) if axis not in ends]
    behind = prod(shape[axis] for axis in others)
    stays = not any(action.dim in others for action in actions)
    of = [[a for a in actions if a.dim == dim] for dim in ends]
    rows = _slots(of[0], shape[ends[0]], symmetry, number)
    width = shape[ends[1]] * groups if len(ends) > 1 else 1
    columns = _slots(of[1] if len(ends) > 1 else [], width, symmetry, number)
    phase = next((a for a in actions if a.phase), None)
    return TensorPlan(
        name,
        shape,
        (*ends, *others),
        groups,
        rows,
        columns,
        _by_position(np.arange(behind), number) if stays and behind > 1 else np.ones(behind),
        any(a.exponent == 2 for a in actions),
        next((a.offset for a in actions if a.offset), 0.0),
        any(a.signed and bool((a.sign >= 0).any() or (a.shift >= 0).any()) for a in actions),
        None if phase is None else np.where(phase.shift >= 0, phase.phase, 0.0),
    )


def _slots(actions: list[Action], size: int, symmetry: Symmetry, number: int) -> Slots:
    fixed, nobody = _classes(symmetry), symmetry.units
    classes = [np.append(symmetry.classes["scale"], fixed)[action.scale] for action in actions if action.exponent]
    powers = [action.power * action.exponent for action in actions if action.exponent]
    of = np.concatenate(classes) if classes else np.full((1, size), fixed, np.int64)
    coefficient = np.concatenate(powers).astype(np.float64) if powers else np.zeros((1, size))
    coefficient[of == fixed] = 0.0
    movable = np.zeros(symmetry.units + 1, bool)
    for unit_set in symmetry.unit_sets:
        movable[unit_set.start : unit_set.start + unit_set.size] = unit_set.permutable
    unit = np.full(size, nobody, np.int64)
    if actions:
        unit = np.where(movable[actions[0].unit], actions[0].unit, nobody)
    # a single slot that stays tells nothing apart
    by_position = _by_position(np.arange(size), number) if size > 1 else np.ones(size)
    return Slots(of, coefficient, unit, np.where(unit == nobody, by_position, 1.0), bool((unit != nobody).any()))


def _by_position(position: IntArray, number: int) -> FloatArray:
    """Numbers in [0.5, 1.5) that look random and are the same everywhere."""
    return uniform(mix(position, number, 11)) + 0.5


def uniform(hashes: Any) -> FloatArray:
    """64-bit hashes -> [0, 1)."""
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _classes(symmetry: Symmetry) -> int:
    return int(symmetry.classes["scale"].max(initial=-1)) + 1


def _families(symmetry: Symmetry) -> IntArray:
    """Classes count for the family in which they come first."""
    family = np.full(_classes(symmetry) + 1, -1, np.int64)
    number = 0
    for index, unit_set in enumerate(symmetry.unit_sets):
        start = symmetry.starts["scale"][index]
        for row in range(unit_set.families["scale"]):
            classes = symmetry.classes["scale"][start + row * unit_set.size : start + (row + 1) * unit_set.size]
            family[classes[family[classes] < 0]] = number
            number += 1
    return family


def _architecture(networks: Sequence[Network], symmetry: Symmetry, tensors: Sequence[TensorPlan]) -> str:
    """Sorted, so that front ends that list layers in another order agree; the order of layers shows in the code."""
    shapes = sorted([tensor.shape[axis] for axis in tensor.order] for tensor in tensors)
    sets = sorted((s.size, s.permutable, s.block_size, sorted(s.families.items())) for s in symmetry.unit_sets)
    functions = sorted(
        {str(op.attributes["function"]) for n in networks for op in n.graph.ops if op.kind == "pointwise"}
    )
    return hashlib.sha256(repr((shapes, sets, functions)).encode()).hexdigest()[:16]
