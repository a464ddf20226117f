"""symmetry/solve.py: from graphs to the group: unit sets, scale, sign and shift families, and what acts on which tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.axis import Axis, HashArray, IntArray, mix
from nfn_cli.symmetry.blocks import find_blocks
from nfn_cli.symmetry.rules import Entry, apply_rule, settled
from nfn_cli.symmetry.system import Incidence, System, components, summed_hash
from nfn_cli.symmetry.unit_set import UnitSet

_FAMILIES = ("scale", "sign", "shift")


@dataclass(frozen=True, eq=False)
class Action:
    """An `Incidence` in flat numbers: for each slot its unit and which entries of an element's vectors it takes (−1: none)."""

    tensor: str
    dim: int
    exponent: int
    signed: bool
    offset: float
    phase: float
    unit: IntArray
    label: HashArray
    power: IntArray
    scale: IntArray
    sign: IntArray
    shift: IntArray
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The monomial group of all networks of one checkpoint.

    Flat layout: set k owns units start_k … start_k + n_k − 1; its f-th scale family owns n_k consecutive entries of the
    scale vector, likewise signs and shifts. Entries with equal class number must be equal (ties beyond one unit).

    Attributes:
        unit_sets: in the order in which the networks make them.
        actions: tensor name -> what a group element does to it.
        starts: family kind -> for each set the flat index of its first entry.
        classes: family kind -> class number of each flat entry.
        shift_signs: for each flat shift entry the flat sign entry that multiplies the same bias (−1: none).
        opaque: per network, what was not understood and therefore frozen.
    """

    unit_sets: tuple[UnitSet, ...]
    actions: Mapping[str, tuple[Action, ...]]
    starts: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, IntArray]
    shift_signs: IntArray
    opaque: tuple[tuple[str, ...], ...]

    @property
    def units(self) -> int:
        return sum(unit_set.size for unit_set in self.unit_sets)


def find_symmetry(networks: Sequence[Network], aliases: Mapping[str, str] | None = None) -> Symmetry:
    """Solve the equations of all networks together, so that tensors they share change in one way.

    Args:
        networks: graphs over one checkpoint's tensors.
        aliases: tensor name -> the name it shares memory with.

    Raises:
        Refused: shapes disagree (code "shape-mismatch").
    """
    shapes = {name: tuple(shape) for network in networks for name, shape in network.graph.parameter_shapes.items()}
    system = System(shapes, dict(aliases or {}))
    first_axis, opaque = [], []
    for network in networks:
        first_axis.append(len(system.axes))
        system.opaque = []
        _collect(network.graph, system)
        opaque.append(tuple(dict.fromkeys(system.opaque)))
    system.tie_shared_tensors()
    return _solved(system, first_axis, tuple(opaque))


def _collect(graph: Graph, system: System) -> None:
    values: dict[str, tuple[Entry, ...]] = {
        entry.name: tuple(
            size if size is None or axis == 0 else system.fixed(size) for axis, size in enumerate(entry.shape)
        )
        for entry in graph.inputs
    }
    made_by = {op.output: op for op in graph.ops}
    reads = [name for op in graph.ops for name in op.inputs] + list(graph.outputs)
    for op in graph.ops:
        system.use += 1
        op = _with_phase_bias(op, made_by, reads)
        values[op.output] = apply_rule(op, [values[name] for name in op.inputs], system)
    for name in graph.outputs:
        for axis in settled(values[name], system):
            system.pin(axis)


def _with_phase_bias(op: Op, made_by: Mapping[str, Op], reads: Sequence[str]) -> Op:
    """Name the bias that a phase count may move: the pre-activation must go nowhere but into this sine."""
    if op.kind != "pointwise" or not getattr(ACTIVATIONS.get(op.attributes["function"]), "periodic", False):
        return op
    maker = made_by.get(op.inputs[0])
    if maker is None or maker.kind not in ("linear", "conv") or "bias" not in maker.parameters:
        return op
    if reads.count(op.inputs[0]) != 1:
        return op
    return replace(op, attributes={**op.attributes, "phase_bias": maker.parameters["bias"]})


def _solved(system: System, first_axis: list[int], opaque: tuple[tuple[str, ...], ...]) -> Symmetry:
    root = {kind: components(system.counts[kind], system.edges[kind]) for kind in system.counts}
    pinned = {}
    for kind, nodes in system.pinned.items():
        pinned[kind] = np.zeros(system.counts[kind], bool)
        pinned[kind][root[kind][np.concatenate(nodes)]] = True
        pinned[kind] = pinned[kind][root[kind]]
    _label_distinctions(system)
    axes = _distinct(system.axes, system.incidences)
    slots = {
        name: np.concatenate([np.asarray(getattr(axis, name)) for axis in axes]) if axes else np.zeros(0, np.int64)
        for name in Axis.__slots__
    }
    where = np.repeat(np.arange(len(axes)), [len(axis) for axis in axes])
    unit = root["unit"][slots["unit"].astype(np.int64)]
    node = {
        kind: np.where(pinned[kind][slots[kind].astype(np.int64)], 0, root[kind][slots[kind].astype(np.int64)])
        for kind in _FAMILIES
    }
    units = system.counts["unit"]
    # A unit is told apart by its slots: in which axis, under which label, and how they share magnitudes and signs.
    slot_hash = mix(where, slots["label"], slots["power"], *(node[kind] != 0 for kind in _FAMILIES))
    slot_hash = mix(
        slot_hash,
        *(
            summed_hash(node[kind], slot_hash, system.counts[kind])[node[kind]] * (node[kind] != 0)
            for kind in _FAMILIES
        ),
    )
    signature = summed_hash(unit, slot_hash, units)
    fixed_units = pinned["unit"].copy()
    # Two slots of one unit under one label cannot be told apart: leave such units where they are.
    code = mix(where, slots["label"], unit)
    _, back, count = np.unique(code, return_inverse=True, return_counts=True)
    fixed_units[unit[count[back] > 1]] = True
    has_family = np.zeros(units, bool)
    for kind in _FAMILIES:
        has_family[unit[node[kind] != 0]] = True
    first_slot = np.full(units, len(unit), np.int64)
    np.minimum.at(first_slot, unit, np.arange(len(unit)))
    present = np.flatnonzero((first_slot < len(unit)) & (~fixed_units[root["unit"][np.arange(units)]] | has_family))
    blocks = find_blocks(system, root["unit"], mix(signature, fixed_units), fixed_units)
    fixed_units |= blocks.torn
    signature = mix(signature, fixed_units, blocks.kind)
    key, group = np.unique(signature[present], return_inverse=True)
    order_of_group = np.full(len(key), len(unit), np.int64)
    np.minimum.at(order_of_group, group, first_slot[present])
    rank = np.argsort(np.argsort(order_of_group, kind="stable"), kind="stable")
    order = np.lexsort((first_slot[present], blocks.ordered(first_slot)[present], rank[group]))
    flat_of_node = np.full(units, -1, np.int64)
    flat_of_node[present[order]] = np.arange(len(present))
    flat_unit = flat_of_node[unit]
    sizes = np.bincount(rank[group], minlength=len(key)).astype(np.int64)
    starts_units = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
    set_of_unit = np.repeat(np.arange(len(key)), sizes)
    families = {
        kind: _families(
            kind, flat_unit, node[kind], where, np.asarray(slots["label"], np.uint64), set_of_unit, sizes, starts_units
        )
        for kind in _FAMILIES
    }
    actions = _actions(system, root, pinned, flat_of_node, families)
    unit_sets = blocks.noted(
        _unit_sets(
            system, actions, sizes, starts_units, first_axis, fixed_units, present[order], families, where, first_slot
        ),
        present[order],
    )
    return Symmetry(
        unit_sets,
        actions,
        {kind: families[kind].starts for kind in _FAMILIES},
        {kind: families[kind].classes for kind in _FAMILIES},
        _shift_signs(actions, len(families["shift"].classes)),
        opaque,
    )


def _label_distinctions(system: System) -> None:
    """Write the marks of `System.distinguish` into the labels of all axes."""
    if not system.distinctions:
        return
    marks = np.zeros(system.counts["unit"], np.uint64)
    for units, mark in system.distinctions:
        marks[units] = mix(marks[units], mark)
    made: dict[int, Axis] = {}

    def marked(axis: Axis) -> Axis:
        if id(axis) not in made:
            made[id(axis)] = replace(axis, label=mix(axis.label, marks[axis.unit]))
        return made[id(axis)]

    kept = system.axes  # alive until the end: `made` goes by identity
    system.axes = [marked(axis) for axis in kept]
    system.incidences = [replace(incidence, axis=marked(incidence.axis)) for incidence in system.incidences]


def _distinct(axes: list[Axis], incidences: list[Incidence]) -> list[Axis]:
    """Each axis once; only those that a tensor or value really has."""
    return list({id(axis): axis for axis in [*axes, *(incidence.axis for incidence in incidences)]}.values())


@dataclass(frozen=True, eq=False)
class _Families:
    counts: IntArray
    starts: tuple[int, ...]
    classes: IntArray
    sorted_pairs: IntArray
    flat_of_pair: IntArray
    nodes: int

    def lookup(self, flat_unit: IntArray, node: IntArray) -> IntArray:
        """(unit, node) -> flat entry; −1 where the slot carries none."""
        code = flat_unit * self.nodes + node
        if not len(self.sorted_pairs):
            return np.full(len(code), -1, np.int64)
        at = np.minimum(np.searchsorted(self.sorted_pairs, code), len(self.sorted_pairs) - 1)
        return np.where((self.sorted_pairs[at] == code) & (node != 0) & (flat_unit >= 0), self.flat_of_pair[at], -1)


def _families(
    kind: str,
    flat_unit: IntArray,
    node: IntArray,
    where: IntArray,
    label: HashArray,
    set_of_unit: IntArray,
    sizes: IntArray,
    starts_units: IntArray,
) -> _Families:
    """Number each unit's magnitudes (signs, shifts) in the order in which its axes meet them."""
    nodes = int(node.max(initial=0)) + 1
    use = np.flatnonzero((node != 0) & (flat_unit >= 0))
    use = use[np.lexsort((label[use], where[use], flat_unit[use]))]
    pair = flat_unit[use] * nodes + node[use]
    pairs, first = np.unique(pair, return_index=True)
    by_appearance = np.argsort(first, kind="stable")
    owner = pairs[by_appearance] // nodes
    ordinal = np.arange(len(owner)) - np.searchsorted(owner, owner) if len(owner) else np.zeros(0, np.int64)
    counts = np.zeros(len(sizes), np.int64)
    np.maximum.at(counts, set_of_unit[owner], ordinal + 1)
    starts = np.concatenate([[0], np.cumsum(counts * sizes)]).astype(np.int64)
    of = set_of_unit[owner]
    flat = starts[of] + ordinal * sizes[of] + owner - starts_units[of]
    classes = np.full(int(starts[-1]), -1, np.int64)
    classes[flat] = pairs[by_appearance] % nodes
    _, classes = np.unique(classes, return_inverse=True)
    flat_of_pair = np.empty(len(pairs), np.int64)
    flat_of_pair[by_appearance] = flat
    return _Families(counts, tuple(int(s) for s in starts[:-1]), classes.astype(np.int64), pairs, flat_of_pair, nodes)


def _actions(
    system: System,
    root: Mapping[str, IntArray],
    pinned: Mapping[str, np.ndarray[tuple[int], np.dtype[np.bool_]]],
    flat_of_node: IntArray,
    families: Mapping[str, _Families],
) -> dict[str, tuple[Action, ...]]:
    out: dict[str, list[Action]] = {}
    for incidence in system.incidences:
        axis = incidence.axis
        flat_unit = flat_of_node[root["unit"][axis.unit]]
        entry = {}
        for kind in _FAMILIES:
            nodes = getattr(axis, kind)
            nodes = np.where(pinned[kind][nodes], 0, root[kind][nodes])
            entry[kind] = families[kind].lookup(flat_unit, nodes)
        out.setdefault(incidence.tensor, []).append(
            Action(
                incidence.tensor,
                incidence.dim,
                incidence.exponent,
                incidence.signed,
                incidence.offset,
                incidence.phase,
                flat_unit,
                axis.label,
                axis.power,
                **entry,
                groups=incidence.groups,
            )
        )
    return {tensor: tuple(actions) for tensor, actions in out.items()}


def _unit_sets(
    system: System,
    actions: Mapping[str, tuple[Action, ...]],
    sizes: IntArray,
    starts: IntArray,
    first_axis: list[int],
    fixed_units: np.ndarray[tuple[int], np.dtype[np.bool_]],
    nodes: IntArray,
    families: Mapping[str, _Families],
    where: IntArray,
    first_slot: IntArray,
) -> tuple[UnitSet, ...]:
    touches: list[dict[tuple[str, int], bool]] = [{} for _ in sizes]
    bounds = np.concatenate([starts, [int(sizes.sum())]])
    for tensor_actions in actions.values():
        for action in tensor_actions:
            here = np.unique(np.searchsorted(bounds, np.unique(action.unit[action.unit >= 0]), side="right") - 1)
            for number in here:
                pair = (action.tensor, action.dim)
                touches[number][pair] = touches[number].get(pair, False) or action.exponent == 1
    names: dict[str, int] = {}
    made = []
    for number, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        pairs = touches[number]
        maker = next((tensor for (tensor, _), makes in pairs.items() if makes), next(iter(pairs), ("units", 0))[0])
        name = _layer_name(maker)
        names[name] = names.get(name, 0) + 1
        axis = int(where[first_slot[nodes[start]]])
        made.append(
            UnitSet(
                name if names[name] == 1 else f"{name}#{names[name]}",
                int(np.searchsorted(first_axis, axis, side="right") - 1),
                int(size),
                int(start),
                not bool(fixed_units[nodes[start]]),
                {kind: int(families[kind].counts[number]) for kind in _FAMILIES},
                tuple(pairs),
            )
        )
    return tuple(made)


def _layer_name(tensor: str) -> str:
    cut = max(tensor.rfind("."), tensor.rfind("/"))
    return tensor[:cut] if cut > 0 else tensor


def _shift_signs(actions: Mapping[str, tuple[Action, ...]], shifts: int) -> IntArray:
    signs = np.full(shifts, -1, np.int64)
    for tensor_actions in actions.values():
        for action in tensor_actions:
            if action.phase:
                signed = next(a for a in tensor_actions if a.signed and a.dim == action.dim)
                use = action.shift >= 0
                signs[action.shift[use]] = signed.sign[use]
    return signs
