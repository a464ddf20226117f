"""symmetry/slots.py: all slots of all axes in flat arrays, with the free magnitudes, signs and phases that each carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nfn_cli.symmetry.axis import Axis, HashArray, IntArray, mix
from nfn_cli.symmetry.relations import BoolArray, Expansion, expanded
from nfn_cli.symmetry.system import System, components, summed_hash

FAMILIES = ("scale", "sign", "shift")


@dataclass(frozen=True, eq=False)
class Solution:
    """The equations of a system, solved.

    Attributes:
        unit: node of unit -> least node it is tied to.
        fixed: by node of unit, those that cannot move.
        free: family kind -> what each node is in terms of free ones.
    """

    unit: IntArray
    fixed: BoolArray
    free: Mapping[str, Expansion]

    def carried(self, axis: Axis, kind: str) -> tuple[IntArray, IntArray]:
        """(D, slots) free nodes, and the powers to which the slots of the axis carry them."""
        expansion, nodes = self.free[kind], getattr(axis, kind).astype(np.int64)
        power = expansion.coefficient[:, nodes]
        return expansion.node[:, nodes], power * axis.power if kind == "scale" else power


def solved(system: System) -> Solution:
    root = {kind: components(system.counts[kind], system.edges[kind]) for kind in system.counts}
    pinned = {}
    for kind, nodes in system.pinned.items():
        pinned[kind] = np.zeros(system.counts[kind], bool)
        pinned[kind][root[kind][np.concatenate(nodes)]] = True
        pinned[kind] = pinned[kind][root[kind]]
    single = _single_nodes(system)
    free = {
        kind: expanded(
            root[kind], pinned[kind], system.relations.get(kind, []), single[kind], 2 if kind == "sign" else 0
        )
        for kind in FAMILIES
    }
    return Solution(root["unit"], pinned["unit"], free)


def _single_nodes(system: System) -> Mapping[str, IntArray]:
    """Nodes that must be free: a batch norm's input is settled in closed form, a sine's sign turns its phase count."""
    norms = [incidence.axis.scale for incidence in system.incidences if incidence.exponent == 2]
    phased = [incidence.axis.sign for incidence in system.incidences if incidence.phase]
    nothing = np.zeros(0, np.int64)
    return {
        "scale": np.concatenate([nothing, *norms]),
        "sign": np.concatenate([nothing, *phased]),
        "shift": nothing,
    }


@dataclass(frozen=True, eq=False)
class Slots:
    """One entry a slot, axis after axis; `node` and `power` are (D, slots) for each family kind."""

    where: IntArray
    label: HashArray
    unit: IntArray
    node: Mapping[str, IntArray]
    power: Mapping[str, IntArray]

    @property
    def alike(self) -> BoolArray:
        """(slots,) whether the unit has another slot under the same label in the same axis."""
        code = mix(self.where, self.label, self.unit)
        _, back, count = np.unique(code, return_inverse=True, return_counts=True)
        return np.asarray(count[back.reshape(-1)] > 1)

    def signatures(self, counts: Mapping[str, int]) -> tuple[HashArray, Mapping[str, HashArray]]:
        """What tells units apart, by node of unit, and what tells free nodes apart, by node.

        A unit is told apart by its slots: in which axis, under which label, and how they share magnitudes and signs.
        """
        own = mix(self.where, self.label)
        for kind in FAMILIES:
            own = mix(own, _over_depth(mix(self.node[kind] != 0, self.power[kind]) * (self.node[kind] != 0)))
        of_node = {}
        shared = []
        for kind in FAMILIES:
            node, power = self.node[kind], self.power[kind]
            each = mix(np.broadcast_to(own, node.shape), power)
            of_node[kind] = summed_hash(node.reshape(-1), each.reshape(-1), counts[kind])
            shared.append(_over_depth(mix(of_node[kind][node], power) * (node != 0)))
        return summed_hash(self.unit, mix(own, *shared), counts["unit"]), of_node


def _over_depth(hashes: HashArray) -> HashArray:
    with np.errstate(over="ignore"):
        return np.asarray(hashes.sum(axis=0, dtype=np.uint64))


def flattened(axes: list[Axis], solution: Solution) -> Slots:
    def joined(parts: list[IntArray]) -> IntArray:
        return np.concatenate([np.zeros((*parts[0].shape[:-1], 0), np.int64), *parts], axis=-1)

    carried = {kind: [solution.carried(axis, kind) for axis in axes] for kind in FAMILIES}
    return Slots(
        np.repeat(np.arange(len(axes)), [len(axis) for axis in axes]),
        np.concatenate([axis.label for axis in axes]),
        solution.unit[np.concatenate([axis.unit for axis in axes])],
        {kind: joined([node for node, _ in parts]) for kind, parts in carried.items()},
        {kind: joined([power for _, power in parts]) for kind, parts in carried.items()},
    )
