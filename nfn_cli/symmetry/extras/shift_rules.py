"""symmetry/extras/shift_rules.py: what each op does to a constant added along one axis of its inputs. One short rule an op.

A rule gets the shifts of the inputs (None: no constant) and gives that of the output. What has no rule lets nothing pass.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import vector
from nfn_cli.symmetry.extras.shift import Shift, summed
from nfn_cli.symmetry.extras.shift_system import Absorption, ShiftSystem, zero_segment
from nfn_cli.symmetry.extras.survey import Survey, is_exact

ShiftRule = Callable[[Op, list[Shift | None], ShiftSystem], Shift | None]
SHIFT_RULES: dict[str, ShiftRule] = {}


def shift_rule(*kinds: str) -> Callable[[ShiftRule], ShiftRule]:
    def register(function: ShiftRule) -> ShiftRule:
        for kind in kinds:
            SHIFT_RULES[kind] = function
        return function

    return register


def shift_system(survey: Survey) -> ShiftSystem:
    """Collect variables and constraints of a network."""
    system = ShiftSystem(survey)
    shifts: dict[str, Shift | None] = {}
    for op in survey.graph.ops:
        inputs = [shifts.get(name) for name in op.inputs]
        shift = SHIFT_RULES.get(op.kind, _stopped)(op, inputs, system)
        shifts[op.output] = shift if shift is not None and shift.terms else None
    for name in survey.graph.outputs:
        system.pin(shifts.get(name))
    system.settle()
    return system


def _stopped(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    for shift in inputs:
        system.pin(shift)
    return None


def is_padded(op: Op) -> bool:
    """Zeros at the border do not shift with the rest."""
    padding = op.attributes.get("padding", 0)
    return bool(padding) if isinstance(padding, int) else any(padding)


@shift_rule("linear", "conv")
def _affine(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """The bias takes up what the weight makes of a constant; without a bias the constant goes on, mixed."""
    shape = system.survey.shapes[op.output]
    incoming = inputs[0]
    if shape is None or "weight" not in op.parameters:
        return _stopped(op, inputs, system)
    read = len(shape) - 1 if op.kind == "linear" else 1
    at = op.attributes
    if incoming is not None and (
        incoming.axis != read or (op.kind == "conv" and (is_padded(op) or at.get("transposed") or len(inputs) > 1))
    ):
        _stopped(op, inputs, system)
        incoming = None
    size = shape[read]
    assert size is not None
    if system.survey.own(op, "bias") is not None:
        number, out = system.variable(op, "bias", size, read)
        system.absorptions.append(Absorption(op, incoming, {"bias": number}))
        system.absorbed(incoming, "linear")
        return out
    if incoming is None:
        return None
    number, out = system.variable(op, "output", size, read)
    system.absorptions.append(Absorption(op, incoming, {"output": number}))
    system.absorbed(incoming, "linear")
    return out


@shift_rule("batch_norm")
def _batch_norm(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """The running mean takes up any constant; it (times a factor that must be known) and β each add one."""
    survey, (incoming,) = system.survey, inputs
    mean = survey.own(op, "running_mean")
    if incoming is not None and (incoming.axis != 1 or mean is None):
        system.pin(incoming)
        incoming = None
    numbers, out = {}, []
    size = prod(survey.graph.parameter_shapes[op.parameters["running_mean"]])
    if mean is not None and is_exact(op):
        dead = survey.vector(op.parameters["weight"]) == 0 if "weight" in op.parameters else None
        numbers["running_mean"], shift = system.variable(op, "running_mean", size, 1, dead)
        out.append(shift)
    if survey.own(op, "bias") is not None:
        numbers["bias"], shift = system.variable(op, "bias", size, 1)
        out.append(shift)
    system.absorptions.append(Absorption(op, incoming, numbers))
    system.absorbed(incoming, "batch_norm")
    return summed(out) if out else None


@shift_rule("layer_norm", "normalize")
def _normalize(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """Along what is normalized together only one constant is lost; along another axis every constant is."""
    (incoming,), shape = inputs, system.survey.shapes[op.output]
    if shape is None:
        return _stopped(op, inputs, system)
    groups = int(op.attributes.get("groups") or 0)
    axes = {axis % len(shape) for axis in op.attributes.get("axes", (-1,))} | ({1} if groups else set())
    if incoming is not None and incoming.axis in axes:
        system.tie(incoming, "layer_norm", groups or 1)
    else:
        system.absorbed(incoming, "normalize")
    (axis, *more), size = sorted(axes), shape[max(axes)]
    bias = system.survey.own(op, "bias")
    if bias is None or more or size is None or prod(system.survey.graph.parameter_shapes[bias]) != size:
        return None
    number, out = system.variable(op, "bias", size, axis)
    system.absorptions.append(Absorption(op, None, {"bias": number}))
    return out


@shift_rule("softmax")
def _softmax(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> None:
    (incoming,), shape = inputs, system.survey.shapes[op.output]
    if incoming is None:
        return
    if shape is None:
        system.pin(incoming)
    elif incoming.axis == op.attributes["axis"] % len(shape):
        system.tie(incoming, "softmax")
    else:
        system.absorbed(incoming, "softmax")


@shift_rule("scale")
def _scale(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """One variable that only this factor reads is measured behind it from now on."""
    (incoming,), shape = inputs, system.survey.shapes[op.output]
    if incoming is None:
        return None
    weight = vector(system.survey.tensors, op.parameters["weight"])
    alone = shape is not None and op.attributes["axis"] % len(shape) == incoming.axis and len(weight) == len(incoming)
    if not (alone and len(incoming.segments) == 1 and incoming.segments[0].repeat == 1 and _only_reader(op, system)):
        return _stopped(op, inputs, system)
    (((variable, start), c),) = list(incoming.segments[0].terms.items())[:1]
    lonely = len(incoming.segments[0].terms) == 1 and start == 0 and c == 1.0
    source = system.variables[variable]
    if not lonely or source.size != len(weight) or source.role != "bias":
        return _stopped(op, inputs, system)
    system.regauge(variable, weight)
    return incoming


def _only_reader(op: Op, system: ShiftSystem) -> bool:
    """From the layer that makes it, the value goes nowhere but here."""
    survey = system.survey
    while len(survey.readers[op.inputs[0]]) == 1 and op.inputs[0] in survey.maker:
        op = survey.maker[op.inputs[0]]
        if op.kind in ("linear", "conv"):
            return True
        if op.kind not in ("permute", "reshape"):
            return False
    return False


@shift_rule("pointwise")
def _pointwise(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    return inputs[0] if op.attributes["function"] == "identity" else _stopped(op, inputs, system)


@shift_rule("scalar")
def _scalar(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    factor = float(op.attributes.get("multiply", 1.0))
    return inputs[0].times(factor) if inputs[0] is not None and factor else _stopped(op, inputs, system)


@shift_rule("add")
def _add(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """Constants add up; what is spread along the axis brings none along."""
    shapes, out = [system.survey.shapes[name] for name in op.inputs], system.survey.shapes[op.output]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or out is None:
        return _stopped(op, inputs, system)
    shifts = [
        shift.along(shift.axis + len(out) - len(shape))
        for shift, shape in zip(inputs, known, strict=True)
        if shift is not None
    ]
    if not shifts:
        return None
    if any(out[shift.axis] != len(shift) for shift in shifts):
        return _stopped(op, inputs, system)
    total = summed(shifts)
    return total if total is not None else _stopped(op, inputs, system)


@shift_rule("concat")
def _concat(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    known = [shift for shift in inputs if shift is not None]
    shape = system.survey.shapes[op.output]
    if not known or shape is None:
        return _stopped(op, inputs, system)
    axis = op.attributes["axis"] % len(shape)
    lengths = [(system.survey.shapes[name] or ())[axis : axis + 1] for name in op.inputs]
    if any(shift.axis != axis for shift in known) or any(not n or n[0] is None for n in lengths):
        return _stopped(op, inputs, system)
    segments = [
        segment
        for shift, (length,) in zip(inputs, lengths, strict=True)
        for segment in (shift.segments if shift is not None else (zero_segment(int(length or 0)),))
    ]
    return Shift(axis, tuple(segments))


@shift_rule("slice")
def _slice(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    (incoming,), at, shape = inputs, op.attributes, system.survey.shapes[op.output]
    if incoming is None or shape is None:
        return _stopped(op, inputs, system)
    if at["axis"] % len(shape) != incoming.axis:
        return incoming
    part = incoming.part(at["start"], at["stop"]) if at.get("step", 1) == 1 and at["start"] >= 0 else None
    return part if part is not None and len(part) == shape[incoming.axis] else _stopped(op, inputs, system)


@shift_rule("permute")
def _permute(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    order = list(op.attributes["order"])
    return inputs[0].along(order.index(inputs[0].axis)) if inputs[0] is not None else None


@shift_rule("flatten", "reshape")
def _reshape(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """The axis stays, or it is the outermost (or innermost) of those that are merged into one."""
    (shift,) = inputs
    before, after = system.survey.shapes[op.inputs[0]], system.survey.shapes[op.output]
    if shift is None or before is None or after is None:
        return _stopped(op, inputs, system)
    if op.kind == "flatten" and op.attributes.get("order") == "channel_inner":
        total = after[1]
        if shift.axis != 1 or total is None:
            return _stopped(op, inputs, system)
        return Shift(1, shift.segments * (total // len(shift)))
    if op.kind == "flatten" and len(before) == 2:
        return shift
    place = _same_prefix(before[: shift.axis], after)
    length = None if place is None or place >= len(after) else after[place]
    if place is None or length is None or length % len(shift):
        return _stopped(op, inputs, system)
    repeat = length // len(shift)
    if repeat != 1 and (len(shift.segments) > 1 or repeat != _merged(before[shift.axis + 1 :], op)):
        return _stopped(op, inputs, system)
    if repeat == 1:
        return shift.along(place)
    (segment,) = shift.segments
    return Shift(place, (type(segment)(segment.size, segment.terms, segment.repeat * repeat),))


def _same_prefix(before: tuple[int | None, ...], after: tuple[int | None, ...]) -> int | None:
    """How many axes of `after` hold exactly the entries of the axes `before`."""
    if before == after[: len(before)] and None not in before[1:]:
        return len(before)
    if None in before:
        return None
    wanted, place, product = prod(n or 1 for n in before), 0, 1
    while product < wanted and place < len(after) and after[place] is not None:
        product *= after[place] or 1
        place += 1
    return place if product == wanted else None


def _merged(rest: tuple[int | None, ...], op: Op) -> int | None:
    """How many positions a channel has, when all that follows it is merged with it."""
    if op.attributes.get("positions") is not None:
        return int(op.attributes["positions"])
    return None if None in rest else prod(n or 1 for n in rest)


@shift_rule("max_pool", "average_pool", "pool", "spatial_mean", "resize")
def _pool(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """Largest and mean of shifted values are shifted alike; zeros that count into a mean are not."""
    (shift,) = inputs
    counted = op.kind == "average_pool" and is_padded(op) and op.attributes.get("count_padding", True)
    return _stopped(op, inputs, system) if counted or (shift is not None and shift.axis != 1) else shift


@shift_rule("reduce")
def _reduce(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    (shift,), shape, statistic = inputs, system.survey.shapes[op.output], op.attributes["statistic"]
    if shift is None or shape is None:
        return _stopped(op, inputs, system)
    if shift.axis in {axis % len(shape) for axis in op.attributes["axes"]}:
        if statistic != "variance":
            return _stopped(op, inputs, system)
        system.tie(shift, "variance")
        return None
    if statistic == "variance":
        system.absorbed(shift, "variance")
        return None
    return shift if statistic in ("mean", "max", "min") else _stopped(op, inputs, system)


@shift_rule("pad")
def _pad(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    """Cropping keeps a constant; a border of zeros does not have it."""
    grows = any(amount > 0 for amount in (*op.attributes["before"], *op.attributes["after"]))
    (shift,) = inputs
    crops = shift is not None and (op.attributes["before"][shift.axis] or op.attributes["after"][shift.axis])
    return _stopped(op, inputs, system) if grows or crops else shift


@shift_rule("expand")
def _expand(op: Op, inputs: list[Shift | None], system: ShiftSystem) -> Shift | None:
    (shift,) = inputs
    same = shift is not None and op.attributes["shape"][shift.axis] == len(shift)
    return shift if same else _stopped(op, inputs, system)
