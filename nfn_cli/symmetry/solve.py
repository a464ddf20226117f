"""symmetry/solve.py: from graphs to the group: unit sets, scale, sign and shift families, and what acts on which tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.axis import HashArray, IntArray, mix
from nfn_cli.symmetry.blocks import find_blocks
from nfn_cli.symmetry.families import Families, Layout, numbered
from nfn_cli.symmetry.labels import Labels
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.rules import Entry, apply_rule, settled
from nfn_cli.symmetry.slots import FAMILIES, Solution, flattened, solved
from nfn_cli.symmetry.system import Incidence, System
from nfn_cli.symmetry.unit_set import UnitSet


@dataclass(frozen=True, eq=False)
class Action:
    """An `Incidence` in flat numbers: for each slot its unit and which entries of an element's vectors it takes (−1: none).

    `power`, `scale` and `sign` are (D, slots): a slot may carry a product of several magnitudes or signs; the others (slots,).
    """

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

    @property
    def scaled(self) -> bool:
        """Whether any slot carries a magnitude that an element may set."""
        return bool(self.exponent) and bool((self.scale >= 0).any())


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
        return self.unit_sets[-1].start + self.unit_sets[-1].size if self.unit_sets else 0


def find_symmetry(networks: Sequence[Network], aliases: Mapping[str, str] | None = None) -> Symmetry:
    """Solve the equations of all networks together, so that tensors they share change in one way.

    Args:
        networks: graphs over one checkpoint's tensors.
        aliases: tensor name -> the name it shares memory with.

    Raises:
        Refused: shapes disagree (code "shape-mismatch").
    """
    shapes = {name: tuple(shape) for network in networks for name, shape in network.graph.parameter_shapes.items()}
    unsplit: frozenset[int] = frozenset()
    while True:
        system = System(dict(shapes), dict(aliases or {}), unsplit=unsplit)
        first_axis, opaque = [], []
        for network in networks:
            first_axis.append(len(system.axes))
            system.opaque = []
            _collect(network.graph, system)
            opaque.append(tuple(dict.fromkeys(system.opaque)))
        system.tie_shared_tensors()
        symmetry, tearing = _solved(system, first_axis, tuple(opaque))
        if not tearing & system.splittable - unsplit:
            return symmetry
        unsplit |= tearing & system.splittable


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


def _solved(
    system: System, first_axis: list[int], opaque: tuple[tuple[str, ...], ...]
) -> tuple[Symmetry, frozenset[int]]:
    """The group, and the ops whose blocks others tore."""
    solution = solved(system)
    labels = Labels(system)
    axes = labels.axes
    if not axes:
        nothing = {kind: np.zeros(0, np.int64) for kind in FAMILIES}
        return Symmetry((), {}, dict.fromkeys(FAMILIES, ()), nothing, nothing["shift"], opaque), frozenset()
    slots = flattened(axes, solution)
    if slots.alike.any():
        axes = labels.shared_slot_by_slot()
        slots = flattened(axes, solution)
    signature, of_node = slots.signatures(system.counts)
    fixed_units = solution.fixed.copy()
    fixed_units[slots.unit[slots.alike]] = True  # they stay where they are
    units = system.counts["unit"]
    has_family = np.zeros(units, bool)
    for kind in FAMILIES:
        has_family[slots.unit[(slots.node[kind] != 0).any(axis=0)]] = True
    first_slot = np.full(units, len(slots.unit), np.int64)
    np.minimum.at(first_slot, slots.unit, np.arange(len(slots.unit)))
    present = np.flatnonzero((first_slot < len(slots.unit)) & (~fixed_units[solution.unit] | has_family))
    blocks = find_blocks(system, solution.unit, mix(signature, fixed_units), fixed_units)
    fixed_units |= blocks.torn
    signature = mix(signature, fixed_units, blocks.kind)
    key, group = np.unique(signature[present], return_inverse=True)
    order_of_group = np.full(len(key), len(slots.unit), np.int64)
    np.minimum.at(order_of_group, group, first_slot[present])
    rank = np.argsort(np.argsort(order_of_group, kind="stable"), kind="stable")
    order = np.lexsort((first_slot[present], blocks.ordered(first_slot)[present], rank[group]))
    flat_of_node = np.full(units, -1, np.int64)
    flat_of_node[present[order]] = np.arange(len(present))
    flat_unit = flat_of_node[slots.unit]
    layout = Layout(np.bincount(rank[group], minlength=len(key)).astype(np.int64))
    families = {kind: numbered(kind, slots, of_node[kind], flat_unit, layout) for kind in FAMILIES}
    actions = _actions(labels.incidences, solution, flat_of_node, families)
    members = present[order]
    set_axes = slots.where[first_slot[members[layout.starts]]] if len(members) else np.zeros(0, np.int64)
    networks = np.searchsorted(first_axis, set_axes, side="right") - 1
    unit_sets = blocks.noted(_unit_sets(actions, layout, networks, fixed_units[members], families), members)
    symmetry = Symmetry(
        unit_sets,
        actions,
        {kind: families[kind].starts for kind in FAMILIES},
        {kind: families[kind].classes for kind in FAMILIES},
        _shift_signs(actions, len(families["shift"].classes)),
        opaque,
    )
    return symmetry, blocks.tearing


def _actions(
    incidences: Sequence[Incidence], solution: Solution, flat_of_node: IntArray, families: Mapping[str, Families]
) -> dict[str, tuple[Action, ...]]:
    out: dict[str, list[Action]] = {}
    for incidence in incidences:
        axis = incidence.axis
        flat_unit = flat_of_node[solution.unit[axis.unit]]
        carried = {kind: solution.carried(axis, kind) for kind in FAMILIES}
        entry = {kind: families[kind].lookup(flat_unit, node) for kind, (node, _) in carried.items()}
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
                carried["scale"][1],
                entry["scale"],
                entry["sign"],
                entry["shift"][0],
                incidence.groups,
            )
        )
    return {tensor: tuple(actions) for tensor, actions in out.items()}


def _unit_sets(
    actions: Mapping[str, tuple[Action, ...]],
    layout: Layout,
    networks: IntArray,
    fixed: BoolArray,
    families: Mapping[str, Families],
) -> tuple[UnitSet, ...]:
    touches: list[dict[tuple[str, int], bool]] = [{} for _ in layout.sizes]
    for tensor_actions in actions.values():
        for action in tensor_actions:
            for number in np.unique(layout.set_of_unit[action.unit[action.unit >= 0]]):
                pair = (action.tensor, action.dim)
                touches[number][pair] = touches[number].get(pair, False) or action.exponent == 1
    names: dict[str, int] = {}
    made = []
    for number, (size, start) in enumerate(zip(layout.sizes, layout.starts, strict=True)):
        pairs = touches[number]
        maker = next((tensor for (tensor, _), makes in pairs.items() if makes), next(iter(pairs), ("units", 0))[0])
        name = _layer_name(maker)
        names[name] = names.get(name, 0) + 1
        made.append(
            UnitSet(
                name if names[name] == 1 else f"{name}#{names[name]}",
                int(networks[number]),
                int(size),
                int(start),
                not bool(fixed[start]),
                {kind: int(families[kind].counts[number]) for kind in FAMILIES},
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
                signs[action.shift[use]] = signed.sign[0][use]  # such a sign is never a product
    return signs
