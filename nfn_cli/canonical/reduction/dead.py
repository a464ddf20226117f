"""canonical/reduction/dead.py: which units anything depends on, from the outputs back. Knows graphs and layouts.

A unit is one wherever the graph ties it (residual sums, depthwise convolutions, gates): it goes only when nobody reads any of its
slots. Ops between layers hand each slot on alone; what mixes slots and is no layer keeps all it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.canonical.reduction.affine import Affine
from nfn_cli.canonical.reduction.constants import Absorber
from nfn_cli.canonical.reduction.layout import AxisUnits, Layout
from nfn_cli.canonical.reduction.linear import Rows, with_combinations
from nfn_cli.canonical.reduction.movement import movement
from nfn_cli.canonical.reduction.precision import Precision
from nfn_cli.canonical.reduction.reading import Reading, Terms, terms, untouched_terms
from nfn_cli.graph.model import Network, Op
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.relations import BoolArray

# What slot i of the output is, slot i of the inputs decides.
_SLOT_BY_SLOT = frozenset(
    {"pointwise", "batch_norm", "max_pool", "average_pool", "pool", "spatial_mean", "resize", "filter", "scale"}
    | {"scalar", "clip", "parameter", "constant", "flatten", "permute", "concat", "expand"}
)


@dataclass(eq=False)
class Reader:
    """A layer that reads units.

    Attributes:
        into, out: (inputs,), (outputs,) units of its slots.
        x: what is known of the input slots.
        rewritable: whether the weight belongs to this layer alone.
        absorber: what takes up constants, if anything does.
        sources: layers whose outputs, where linear, may be combined.
    """

    network: int
    op: Op
    reading: Reading
    x: Affine
    into: IntArray
    out: IntArray
    rewritable: bool
    absorber: Absorber | None
    precision: Precision
    sources: list[Rows]
    _seen: tuple[BoolArray, BoolArray] | None = field(default=None)

    def terms(self, keep: BoolArray) -> Terms:
        """How the layer would read if the units that are not kept went."""
        kept = keep[self.into]
        if not self.rewritable:
            return untouched_terms(self.x, kept)
        absorbs = self.absorber is not None
        seen = terms(self.x, self.reading.groups, absorbs, kept, self.precision.factors)
        if self.reading.groups == 1 and self.sources:
            seen = with_combinations(seen, self.x, self.sources, absorbs, kept, self.precision)
        return seen

    def needs(self, keep: BoolArray) -> IntArray | None:
        """Units that must be kept for those that are; None where nothing changed since the last question."""
        state = (keep[self.into], keep[self.out])
        if self._seen is not None and all(np.array_equal(a, b) for a, b in zip(state, self._seen, strict=True)):
            return None
        self._seen = state
        return self.into[self.reading.read(self.terms(keep), state[1])]


def live_units(layout: Layout, networks: Sequence[Network], readers: Sequence[Reader]) -> BoolArray:
    """(units,) whether the unit must stay."""
    keep = layout.fixed.copy()
    keep[0] = True
    pinned = np.zeros(len(keep), bool)
    for number, network in enumerate(networks):
        own = {reader.op.output for reader in readers if reader.network == number}
        for op in network.graph.ops:
            for units in _read_as_a_whole(op, layout, number, op.output in own):
                pinned[units] = True
            pinned[_of_fixed_length(op, layout, number)] = True
    keep |= pinned
    while True:
        before = int(keep.sum())
        for reader in reversed(readers):
            found = reader.needs(keep)
            if found is not None:
                keep[found] = True
        _keep_rectangular(layout, readers, keep)
        if int(keep.sum()) == before:
            return keep


def _read_as_a_whole(op: Op, layout: Layout, network: int, understood: bool) -> list[IntArray]:
    """Units of inputs that the op does not hand on slot by slot."""
    values = layout.values[network]
    if op.kind in _SLOT_BY_SLOT or understood:
        return []
    axes = [(name, place, units) for name in op.inputs for place, units in enumerate(values[name])]
    with_units = [(name, place, units) for name, place, units in axes if isinstance(units, np.ndarray)]
    if op.kind in ("add", "mul"):
        return [
            units
            for name, place, units in with_units
            if len(units) != _broadcast_length(op, values, place - len(values[name]))
        ]
    if op.kind == "reduce":
        reduced = {axis % len(values[op.inputs[0]]) for axis in op.attributes["axes"]}
        return [units for _, place, units in with_units if place in reduced]
    if op.kind == "slice":
        return [units for _, place, units in with_units if place == op.attributes["axis"] % len(values[op.inputs[0]])]
    if op.kind == "pad":
        around = zip(op.attributes["before"], op.attributes["after"], strict=True)
        moved = [place for place, (b, a) in enumerate(around) if b or a]
        return [units for _, place, units in with_units if place in moved]
    if op.kind == "reshape":
        return [units for _, place, units in with_units if not _runs_along(op, layout, network, place, units)]
    if op.kind == "conv" and len(op.inputs) == 1 and _tied(op, layout, network):
        return []
    return [units for _, _, units in with_units]


def _of_fixed_length(op: Op, layout: Layout, network: int) -> IntArray:
    """Units that the op puts out and no tensor can leave out: what a reduction or padding makes, groups laid out by columns."""
    values = layout.values[network]
    into, out = (
        np.concatenate(
            [np.zeros(0, np.int64), *(a for name in names for a in values[name] if isinstance(a, np.ndarray))]
        )
        for names in (op.inputs, (op.output,))
    )
    if op.kind == "conv" and op.attributes.get("transposed") and int(op.attributes.get("groups", 1)) > 1:
        return np.concatenate([into, out])
    return np.zeros(0, np.int64) if op.kind in ("linear", "conv", "parameter") else np.setdiff1d(out, into)


def _broadcast_length(op: Op, values: Mapping[str, tuple[AxisUnits, ...]], axis: int) -> int:
    lengths = []
    for name in op.inputs:
        axes = values[name]
        entry = axes[axis] if -axis <= len(axes) else 1
        lengths.append(len(entry) if isinstance(entry, np.ndarray) else entry or 0)
    return max(lengths)


def _runs_along(op: Op, layout: Layout, network: int, place: int, units: IntArray) -> bool:
    """Whether a reshape keeps the axis, alone or with what stands behind it; anything else pins its length."""
    values = layout.values[network]
    value, output = values[op.inputs[0]], values[op.output]
    lengths = [tuple(len(a) if isinstance(a, np.ndarray) else a for a in axes) for axes in (value, output)]
    moved = movement(op, [place - len(value)], lengths[:1], lengths[1])
    if moved is None:
        return False
    entry = output[moved.axis]
    return isinstance(entry, np.ndarray) and np.array_equal(entry, units[moved.index])


def _tied(op: Op, layout: Layout, network: int) -> bool:
    """A depthwise convolution: each output slot is a slot of the unit it reads."""
    values = layout.values[network]
    into, out = values[op.inputs[0]][1], values[op.output][1]
    if not (isinstance(into, np.ndarray) and isinstance(out, np.ndarray)) or len(out) % len(into):
        return False
    return np.array_equal(out, np.repeat(into, len(out) // len(into)))


def _keep_rectangular(layout: Layout, readers: Sequence[Reader], keep: BoolArray) -> None:
    """No axis without a slot; all groups of a convolution of one length."""
    for place in layout.places:
        if len(place.units) and not keep[place.units].any():
            keep[place.units[0]] = True
    for reader in readers:
        groups = reader.reading.groups
        if groups == 1:
            continue
        for units in (reader.into, reader.out):
            runs = units.reshape(groups, -1)
            count = keep[runs].sum(axis=1)
            short = max(1, int(count.max())) - count
            order = np.cumsum(~keep[runs], axis=1)
            keep[runs[~keep[runs] & (order <= short[:, None])]] = True
