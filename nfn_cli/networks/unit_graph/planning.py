"""unit_graph/planning.py: from a graph without batch norms to a plan. Knows ops and a Symmetry; no tensor values, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.networks.unit_graph.plan import (
    Bias,
    BlurStep,
    JoinStep,
    LayerStep,
    Plan,
    PointwiseStep,
    ShiftStep,
    Step,
    TakeStep,
    Weights,
)
from nfn_cli.networks.unit_graph.slots import SignCodes, Slots, fixed, linked
from nfn_cli.symmetry.solve import Action, Symmetry, find_symmetry

# what follows is passed on slot by slot; whoever reads it compares slots, so nothing is taken on trust
_PASSING = (
    "max_pool",
    "average_pool",
    "pool",
    "spatial_mean",
    "clip",
    "filter",
    "resize",
    "softmax",
    "scalar",
    "normalize",
    "rms_normalize",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """Slots of the channel axis; behind a flatten each stands for `positions` entries."""

    slots: Slots | None
    positions: int | None = 1
    channel_outer: bool = True


def plan_of(graph: Graph) -> Plan:
    """The plan of a graph that holds no batch norm (see lowering.py).

    Raises:
        Refused: shapes disagree, or no op has a weight (code "no-layers").
    """
    symmetry = find_symmetry([Network("", "cnn", graph)])
    return _Planning(graph, symmetry).plan()


class _Planning:
    def __init__(self, graph: Graph, symmetry: Symmetry) -> None:
        self.graph, self.symmetry, self.codes = graph, symmetry, SignCodes(symmetry)
        self.values: dict[str, _Value] = {}
        self.parameters: dict[str, str] = {}
        self.steps: list[Step] = []
        self.layers = 0

    def plan(self) -> Plan:
        for entry in self.graph.inputs:
            count = entry.shape[1] if len(entry.shape) > 1 else None
            self.values[entry.name] = _Value(None if count is None else fixed(count))
        for op in self.graph.ops:
            if op.kind == "parameter":
                self.parameters[op.output] = op.parameters["value"]
                self.values[op.output] = _Value(None)
            else:
                self.values[op.output] = _READERS.get(op.kind, _Planning._blur)(self, op)
        layers = tuple(step for step in self.steps if isinstance(step, LayerStep))
        if not layers:
            raise Refused("no op of this graph has a weight", fix="a network needs a layer", code="no-layers")
        return Plan(
            self.symmetry,
            {name: value.slots for name, value in self.values.items()},
            tuple(entry.name for entry in self.graph.inputs),
            self.graph.outputs,
            tuple(self.steps),
            layers,
            _activations(self.steps, len(layers)),
            sum(isinstance(step, JoinStep) for step in self.steps),
        )

    def _blur(self, op: Op) -> _Value:
        self.steps.append(BlurStep(tuple(name for name in op.inputs if name not in self.parameters), op.output))
        return _Value(None)

    def _pass(self, op: Op) -> _Value:
        name = str(op.attributes["function"]) if op.kind == "pointwise" else ""
        given = op.attributes.get("omega", op.attributes.get("slope"))
        self.steps.append(PointwiseStep(op.inputs[0], op.output, name, None if given is None else float(given)))
        return self.values[op.inputs[0]]

    def _flatten(self, op: Op) -> _Value:
        value = self.values[op.inputs[0]]
        if value.slots is None or value.positions != 1:
            return self._blur(op)
        self.steps.append(PointwiseStep(op.inputs[0], op.output, ""))
        outer = op.attributes.get("order", "channel_outer") == "channel_outer"
        return _Value(value.slots, op.attributes.get("positions"), outer)

    def _layer(self, op: Op) -> _Value:
        if len(op.inputs) > 1 or not op.attributes.get("trained", True):
            return self._blur(op)
        laid = self._laid_out(op)
        if laid is None:
            return self._blur(op)
        weights, source, target = laid
        value = self.values[op.inputs[0]].slots
        return self._written(op, weights, value, source, target)

    def _written(self, op: Op, weights: Weights, value: Slots | None, source: Slots, target: Slots) -> _Value:
        bias = self._bias(op.parameters["bias"], target) if "bias" in op.parameters else None
        stride = op.attributes.get("stride", 1)
        stride = stride if isinstance(stride, int) else max(stride)
        link = linked(value, source)
        self.steps.append(LayerStep(op.inputs[0], op.output, self.layers, weights, bias, link, int(stride)))
        self.layers += 1
        return _Value(target)

    def _laid_out(self, op: Op) -> tuple[Weights, Slots, Slots] | None:
        """The weight of a linear layer or convolution, the slots it reads, and those it writes; None: not followed."""
        name, out_axis, in_axis = op.parameters["weight"], op.attributes["out_axis"], op.attributes["in_axis"]
        groups, transposed = int(op.attributes.get("groups", 1)), bool(op.attributes.get("transposed", False))
        shape = self.graph.parameter_shapes[name]
        actions = self.symmetry.actions.get(name, ())
        if groups > 1 and (transposed or out_axis != 0):
            return None
        target = self.codes.slots([a for a in actions if a.dim == out_axis and a.exponent == 1], shape[out_axis])
        value = self.values[op.inputs[0]]
        positions = 1
        if op.kind == "linear" and value.slots is not None and shape[in_axis] > len(value.slots) > 0:
            positions = shape[in_axis] // len(value.slots)
        if groups > 1:
            reading = self._grouped_source(actions, groups, shape)
        else:
            along = [a for a in actions if a.dim == in_axis and a.exponent == -1]
            reading = self.codes.slots(along, shape[in_axis])
        source = _one_each(reading, positions, value.channel_outer) if reading is not None else None
        if source is None:
            return Weights(name, out_axis, in_axis, groups, transposed, 1, True, True), _unknown(shape, op), target
        weights = Weights(name, out_axis, in_axis, groups, transposed, positions, value.channel_outer, _signed(actions))
        return weights, source, target

    def _grouped_source(self, actions: tuple[Action, ...], groups: int, shape: tuple[int, ...]) -> Slots | None:
        """All input channels of a grouped convolution, from the action on its axis 1, or on axis 0 of a depthwise one."""
        across = [a for a in actions if a.groups > 1]
        if across:
            return self.codes.slots(across[:1], groups * shape[1])
        along = [a for a in actions if a.dim == 0 and a.exponent == -1]
        if not along or shape[1] != 1:
            return fixed(groups * shape[1]) if not actions or not along else None
        per = shape[0] // groups
        repeated = self.codes.slots(along[:1], shape[0])
        first = repeated.taken(np.arange(0, shape[0], per))
        same = np.array_equal(np.repeat(first.units, per), repeated.units)
        return first if same and np.array_equal(np.repeat(first.signs, per), repeated.signs) else None

    def _scale(self, op: Op) -> _Value:
        """A factor for each slot, also the gain and bias that end a layer norm."""
        value, name = self.values[op.inputs[0]].slots, op.parameters.get("weight")
        if name is None or value is None or prod(self.graph.parameter_shapes[name]) != len(value):
            return self._blur(op)
        actions = self.symmetry.actions.get(name, ())
        target = self.codes.slots([a for a in actions if a.exponent == 1], len(value))
        reading = [a for a in actions if a.exponent != 1]
        source = Slots(target.units, self.codes.of(reading) if reading else fixed(len(value)).signs)
        weights = Weights(name, 0, -1, len(value), False, 1, True, _signed(actions))
        return self._written(op, weights, value, source, target)

    def _norm(self, op: Op) -> _Value:
        return self._scale(op) if "weight" in op.parameters else self._pass(op)

    def _bias(self, name: str, slots: Slots) -> Bias:
        actions = list(self.symmetry.actions.get(name, ()))
        count = len(slots)
        code = self.codes.of(actions) if actions and len(actions[0].unit) == count else np.full(count, -1, np.int64)
        units = actions[0].unit if actions and len(actions[0].unit) == count else np.full(count, -1, np.int64)
        phase = np.zeros(count)
        for action in actions:
            if action.phase:
                phase = np.where(action.shift >= 0, action.phase, phase)
        return Bias(name, (code == slots.signs) & (units == slots.units), phase * (units == slots.units))

    def _add(self, op: Op) -> _Value:
        parameters = [name for name in op.inputs if name in self.parameters]
        others = [name for name in op.inputs if name not in self.parameters]
        value = self.values[others[0]].slots if others else None
        if len(parameters) == 1 and len(others) == 1 and value is not None:
            tensor = self.parameters[parameters[0]]
            if prod(self.graph.parameter_shapes[tensor]) == len(value):
                self.steps.append(ShiftStep(others[0], op.output, self._bias(tensor, value)))
                return self.values[others[0]]
        return self._join(op)

    def _join(self, op: Op) -> _Value:
        values = [self.values[name] for name in op.inputs]
        first = values[0].slots
        if first is None or any(
            v.slots is None or not np.array_equal(v.slots.units, first.units) or v.positions != values[0].positions
            for v in values
        ):
            return self._blur(op)
        signs = np.stack([v.slots.signs for v in values if v.slots is not None])
        keep = (signs == signs[0]).all(0)
        if op.kind == "mul":
            keep = (signs < 0).all(0)
        self.steps.append(JoinStep(op.inputs, op.output, op.kind == "mul", keep))
        return replace(values[0], slots=Slots(first.units, np.where(keep, first.signs, -1)))

    def _concat(self, op: Op) -> _Value:
        values = [self.values[name] for name in op.inputs]
        parts = [v.slots for v in values if v.slots is not None]
        if op.attributes.get("axis") != 1 or len(parts) < len(values) or any(v.positions != 1 for v in values):
            return self._blur(op)
        joined = Slots(np.concatenate([p.units for p in parts]), np.concatenate([p.signs for p in parts]))
        return self._taken(op, joined, np.arange(len(joined)))

    def _slice(self, op: Op) -> _Value:
        value = self.values[op.inputs[0]]
        if op.attributes.get("axis") != 1 or value.slots is None or value.positions != 1:
            return self._blur(op)
        how = op.attributes
        index = np.arange(len(value.slots))[slice(how.get("start"), how.get("stop"), how.get("step"))]
        return self._taken(op, value.slots, index)

    def _taken(self, op: Op, slots: Slots, index: np.ndarray) -> _Value:
        self.steps.append(TakeStep(op.inputs, op.output, index))
        return _Value(slots.taken(index))


def _signed(actions: tuple[Action, ...]) -> bool:
    return any(bool((a.sign >= 0).any() or (a.shift >= 0).any()) for a in actions)


def _unknown(shape: tuple[int, ...], op: Op) -> Slots:
    """Slots that agree with no value's: whoever reads through them sees an average, and nothing odd."""
    length = shape[op.attributes["in_axis"]] * int(op.attributes.get("groups", 1))
    return Slots(np.full(length, -2, np.int64), np.full(length, np.iinfo(np.int64).max, np.int64))


def _one_each(flat: Slots, positions: int, channel_outer: bool) -> Slots | None:
    """A flattened axis -> one slot for each channel; None where its positions do not agree."""
    if positions == 1:
        return flat
    if len(flat) % positions:
        return None
    shape = (-1, positions) if channel_outer else (positions, -1)
    units, signs = (a.reshape(shape) if channel_outer else a.reshape(shape).T for a in (flat.units, flat.signs))
    if (units != units[:, :1]).any() or (signs != signs[:, :1]).any():
        return None
    return Slots(units[:, 0].copy(), signs[:, 0].copy())


def _activations(steps: list[Step], layers: int) -> tuple[tuple[str, ...], ...]:
    """Functions between each layer and the next one in the order of the ops."""
    found: list[list[str]] = [[] for _ in range(layers)]
    current = -1
    for step in steps:
        if isinstance(step, LayerStep):
            current = step.number
        elif isinstance(step, PointwiseStep) and step.name and current >= 0:
            found[current].append(step.name)
    return tuple(tuple(names) for names in found)


_READERS: Mapping[str, Callable[[_Planning, Op], _Value]] = MappingProxyType(
    {
        "linear": _Planning._layer,
        "conv": _Planning._layer,
        "scale": _Planning._scale,
        "layer_norm": _Planning._norm,
        "pointwise": _Planning._pass,
        "flatten": _Planning._flatten,
        "add": _Planning._add,
        "mul": _Planning._join,
        "concat": _Planning._concat,
        "slice": _Planning._slice,
        **dict.fromkeys(_PASSING, _Planning._pass),
    }
)
