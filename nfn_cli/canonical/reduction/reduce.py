"""canonical/reduction/reduce.py: a smaller network that computes the same function, and the proof. No command line, no file.

Each round numbers the functions of all slots forward, asks backward which units anything depends on, moves the outgoing weights of
those that can go, and cuts them off; rounds follow until nothing goes. At the end both networks are run on the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from nfn_cli.canonical.canonicalize import Verification, output_tolerance
from nfn_cli.canonical.reduction import functions as _functions  # noqa: F401 — fills the table of steps
from nfn_cli.canonical.reduction.affine import Kinds
from nfn_cli.canonical.reduction.apply import narrowed, rewritten, shrunk
from nfn_cli.canonical.reduction.certificate import Origins, Removed, certified, mixed
from nfn_cli.canonical.reduction.constants import absorber, constants_left, uses_of_tensors
from nfn_cli.canonical.reduction.dead import Reader, live_units
from nfn_cli.canonical.reduction.intervals import find_bounds
from nfn_cli.canonical.reduction.layers_in_a_row import Narrowed, narrowings
from nfn_cli.canonical.reduction.layout import Layout, find_layout
from nfn_cli.canonical.reduction.numbering import Numbering
from nfn_cli.canonical.reduction.precision import Precision, precision_of
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.reshaped import check_reshapable, reshaped
from nfn_cli.errors import AnswerIsNo, Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.graph.reference import evaluate, random_inputs
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.relations import BoolArray

_ROUNDS = 50
Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class ReduceOptions:
    """What may be removed.

    Attributes:
        input_range: (low, high) of every input entry; with it relu units are looked for that are off (with `linear`: on)
            for all such inputs. The reduced network then computes the same function on that range.
        linear: whether what is linear is merged: units that are always on, and layers with nothing between them.
        tolerance: relative distance of incoming rows that counts as none; 0 is the rounding of the element type.
    """

    input_range: tuple[float, float] | None = None
    linear: bool = False
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.input_range is not None:
            low, high = self.input_range
            if not (np.isfinite([low, high]).all() and low <= high):
                raise WrongUsage(f"{low} … {high} is no range", where="--input-range", fix="LOW HIGH, both finite")
        if not 0 <= self.tolerance < 0.5:
            raise WrongUsage(f"{self.tolerance} is no tolerance", where="--tolerance", fix="at least 0, under 0.5")


@dataclass(frozen=True, slots=True)
class Axis:
    """A tensor axis that lost slots."""

    tensor: str
    axis: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Reduced:
    """The result.

    Attributes:
        checkpoint: the smaller one.
        networks: its networks.
        removed: every unit that went, in the numbers of the original file.
        axes: every tensor axis that became shorter.
        parameters: entries of the networks' tensors before and after.
        relative_change: measured change of the outputs, float64 arithmetic on the stored weights.
        tolerance: what was allowed.
        notes: what the user should know.
    """

    checkpoint: Checkpoint
    networks: tuple[Network, ...]
    removed: tuple[Removed, ...]
    axes: tuple[Axis, ...]
    parameters: tuple[int, int]
    relative_change: float
    tolerance: float
    notes: tuple[str, ...]


def reduce(
    checkpoint: Checkpoint,
    networks: Sequence[Network],
    options: ReduceOptions = ReduceOptions(),
    *,
    writable: bool = True,
) -> Reduced:
    """Remove dead, constant and repeated units; the function stays.

    Args:
        writable: whether the container must be able to hold tensors of other shapes.

    Raises:
        Refused: weights are not finite, shapes disagree, or the container's program holds the old shapes (code
            "shapes-are-fixed"), or the network cannot be run or gives no finite answers ("not-evaluable").
        AnswerIsNo: the outputs would change (code "verification-failed").
    """
    if writable:
        check_reshapable(checkpoint)
    names = list(dict.fromkeys(name for network in networks for name in network.graph.parameter_shapes))
    check_finite(checkpoint, names)
    precision = precision_of((checkpoint.tensors[name].dtype for name in names), options.tolerance)
    state = _State(tuple(networks), {name: checkpoint.tensors[name] for name in names}, checkpoint.aliases)
    removed: list[Removed] = []
    origins = Origins()
    for _ in range(_ROUNDS):
        with np.errstate(
            all="ignore"
        ):  # what is not finite on the way matches nothing, and the check at the end sees it
            step = _round(state, precision, options, origins)
        removed += step.removed
        if not step.removed:
            break
        state = step.state
    changed = {name: array for name, array in state.tensors.items() if array is not checkpoint.tensors[name]}
    smaller = reshaped(checkpoint, changed) if writable else checkpoint.with_tensors(changed)
    with np.errstate(all="ignore"):
        verification = _verified(checkpoint, networks, smaller, state.networks, options)
    if not verification.passed:
        raise AnswerIsNo(
            f"the outputs would change by {verification.relative_change:.2g} (allowed {verification.tolerance:.2g})",
            where=checkpoint.path,
            fix="nothing was written; try a smaller --tolerance",
            code="verification-failed",
        )
    return Reduced(
        smaller,
        state.networks,
        tuple(removed),
        _axes(checkpoint.tensors, state.tensors),
        (_entries(checkpoint.tensors, names), _entries(state.tensors, names)),
        verification.relative_change,
        verification.tolerance,
        step.notes,
    )


@dataclass(frozen=True)
class _State:
    networks: tuple[Network, ...]
    tensors: Mapping[str, Array]
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class _Step:
    state: _State
    removed: list[Removed]
    notes: tuple[str, ...]


def _round(state: _State, precision: Precision, options: ReduceOptions, origins: Origins) -> _Step:
    layout = find_layout(state.networks, state.aliases)
    numberings = [_numbered(state, layout, number, precision, options) for number in range(len(state.networks))]
    readers = _readers(state, layout, numberings, precision)
    if options.linear:
        narrower = narrowings(layout, state.networks, readers, state.tensors, precision)
        if narrower:
            return _narrower(state, layout, narrower, origins)
    keep = live_units(layout, state.networks, readers)
    removed = certified(layout, numberings, readers, keep, origins)
    if not removed:
        return _Step(state, [], _left(layout, readers, keep))
    changed = rewritten(readers, state.tensors, state.aliases, keep)
    origins.cut(layout, keep)
    return _Step(_without(state, layout, changed, keep), removed, ())


def _narrower(state: _State, layout: Layout, found: list[Narrowed], origins: Origins) -> _Step:
    keep = np.ones(len(layout.fixed), bool)
    changed: dict[str, Array] = {}
    removed = []
    for pair in found:
        changed |= pair.tensors
        keep[pair.units[pair.width :]] = False
        removed += mixed(layout, pair.units, pair.width, pair.residual)
        origins.forget(layout, pair.units)
    origins.cut(layout, keep)
    return _Step(_without(state, layout, changed, keep), removed, ())


def _without(state: _State, layout: Layout, changed: Mapping[str, Array], keep: BoolArray) -> _State:
    small = shrunk(layout, state.tensors, changed, keep)
    tensors = {name: small.get(state.aliases.get(name, name), array) for name, array in state.tensors.items()}
    shapes = {name: tuple(array.shape) for name, array in tensors.items()}
    networks = tuple(narrowed(net, layout, number, shapes, keep) for number, net in enumerate(state.networks))
    return replace(state, networks=networks, tensors=tensors)


def _left(layout: Layout, readers: Sequence[Reader], keep: BoolArray) -> tuple[str, ...]:
    notes = [f"not understood, so nothing is removed there: {text}" for text in layout.opaque]
    for reader in readers:
        stuck = reader.x.constant & (reader.x.offset != 0) & ~layout.fixed[reader.into]
        if stuck.any() and reader.absorber is None and keep[reader.into[stuck]].any():
            notes.append(constants_left(reader.op, len(np.unique(reader.into[stuck]))))
    return tuple(notes)


def _numbered(state: _State, layout: Layout, number: int, precision: Precision, options: ReduceOptions) -> Numbering:
    graph = state.networks[number].graph
    bounds = {}
    if options.input_range is not None:
        bounds = find_bounds(graph, layout, number, state.tensors, *options.input_range)
    kinds = Kinds(precision.factors)
    return Numbering(graph, layout, number, state.tensors, precision, bounds, options.linear, kinds).run()


def _readers(state: _State, layout: Layout, numberings: Sequence[Numbering], precision: Precision) -> list[Reader]:
    uses = uses_of_tensors(state.networks, state.aliases)
    found = []
    for number, (network, numbering) in enumerate(zip(state.networks, numberings, strict=True)):
        for op in network.graph.ops:
            reading = numbering.reading(op)
            if reading is None:
                continue
            value = op.inputs[0]
            rank = numbering.rank(value)
            axis = -1 if op.kind == "linear" else 1 - rank
            x = numbering.on_axis(value, axis)
            into, out = layout.units(number, value, axis), layout.units(number, op.output, axis)
            if x is None or into is None or out is None or len(x) != len(into) or len(out) != reading.outputs:
                continue
            if reading.view.shape[2] == 1 and reading.groups > 1:
                continue  # each output slot is its input's unit: nothing can be read by another
            owner = state.aliases.get(op.parameters["weight"], op.parameters["weight"])
            alone = uses[owner] == 1
            takes = absorber(op, network.graph, uses, state.aliases)
            found.append(Reader(number, op, reading, x, into, out, alone, takes, precision, numbering.rows))
    return found


def _verified(
    before: Checkpoint,
    networks: Sequence[Network],
    after: Checkpoint,
    smaller: Sequence[Network],
    options: ReduceOptions,
) -> Verification:
    """On standard normal inputs; where a range is stated, on inputs all over it and in its corners."""
    change = 0.0
    for old, new in zip(networks, smaller, strict=True):
        if options.input_range is None:
            answers = [outputs(net, side.tensors, 0) for net, side in ((old, before), (new, after))]
        else:
            inputs = _in_range(old, options.input_range)
            answers = [list(evaluate(net.graph, side.tensors, inputs)) for net, side in ((old, before), (new, after))]
        if not all(np.isfinite(values).all() for values in answers[0]):
            raise Refused("the network's own outputs are not finite, so nothing can be compared", code="not-evaluable")
        change = max(change, relative_change(*answers))
    names = [name for network in networks for name in network.graph.parameter_shapes]
    return Verification(change, output_tolerance(before.tensors, names))


def _in_range(network: Network, bounds: tuple[float, float]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    low, high = bounds
    inputs = {}
    for name, values in random_inputs(network.graph, 0, 4).items():
        anywhere = generator.uniform(low, high, values.shape)
        corner = np.where(values < 0, low, high)
        mixed = generator.random((values.shape[0], *(1,) * (values.ndim - 1))) < 0.5
        inputs[name] = np.where(mixed, corner, anywhere)
    return inputs


def _axes(before: Tensors, after: Tensors) -> tuple[Axis, ...]:
    return tuple(
        Axis(name, axis, old, new)
        for name, array in after.items()
        for axis, (old, new) in enumerate(zip(before[name].shape, array.shape, strict=True))
        if old != new
    )


def _entries(tensors: Tensors, names: Sequence[str]) -> int:
    return sum(prod(tensors[name].shape) for name in names)
