"""symmetry/extras/translations.py: biases, means and shifts that can be traded for one another without a change of the function.

Every bias and running mean is a variable; what it adds is followed through the graph (`shift_rules`) and must come to nothing
at the outputs, at every nonlinear function, at zero padding. What solves these equations is a group R^k of translations.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import Extra, FloatArray, Tensors, float64, vector
from nfn_cli.symmetry.extras.registry import extra_rule
from nfn_cli.symmetry.extras.shift_rules import shift_system
from nfn_cli.symmetry.extras.shift_space import Direction, directions
from nfn_cli.symmetry.extras.shift_system import Absorption, ShiftSystem
from nfn_cli.symmetry.extras.survey import Survey

EXPLANATIONS = {
    "mean-against-bias": "the running mean of a batch norm only matters together with the bias behind it",
    "bias-before-batch-norm": "a batch norm's running mean takes up any bias before it",
    "bias-before-normalization": "a normalization over space takes any constant of a channel away",
    "bias-before-layer-norm": "a normalization over channels takes a common constant of all channels away",
    "bias-before-softmax": "softmax takes a common constant of all units away",
    "bias-before-linear": "the bias of the next linear layer takes up any bias before it",
    "added-biases": "what one summand adds another can add as well",
    "unread-bias": "a bias whose effect is multiplied by 0 or read by nothing",
}

_ABSORBER_KINDS = (
    ("batch_norm", "bias-before-batch-norm"),
    ("normalize", "bias-before-normalization"),
    ("variance", "bias-before-normalization"),
    ("layer_norm", "bias-before-layer-norm"),
    ("softmax", "bias-before-softmax"),
    ("linear", "bias-before-linear"),
)


@extra_rule
def translations(survey: Survey) -> list[Extra]:
    system = shift_system(survey)
    found: dict[tuple[str, tuple[str, ...]], list[Direction]] = {}
    for direction in directions(system):
        found.setdefault((_kind(system, direction), _tensors(system, direction)), []).append(direction)
    return [
        Extra(
            kind,
            tensors,
            sum(direction.count for direction in family),
            0.0,
            EXPLANATIONS[kind],
            partial(_member, system, tuple(family)),
        )
        for (kind, tensors), family in found.items()
    ]


def _kind(system: ShiftSystem, direction: Direction) -> str:
    if system.variables[direction.free].role == "running_mean":
        return "mean-against-bias"
    absorbers = set().union(*(system.absorbers.get(variable, set()) for variable, _ in direction.amounts))
    alone = len(direction.amounts) == 1
    if not alone and not direction.runs:
        return "added-biases"
    return next((kind for absorber, kind in _ABSORBER_KINDS if absorber in absorbers), "unread-bias")


def _tensors(system: ShiftSystem, direction: Direction) -> tuple[str, ...]:
    others = sorted({variable for variable, _ in direction.amounts} - {direction.free})
    return tuple(system.variables[variable].tensor for variable in (direction.free, *others))


def _member(
    system: ShiftSystem, family: tuple[Direction, ...], tensors: Tensors, random: np.random.Generator
) -> Mapping[str, FloatArray]:
    variables: dict[int, FloatArray] = {}
    for direction in family:
        drawn = random.standard_normal(direction.count)
        if direction.runs:
            drawn = np.repeat(drawn, len(direction.channels) // direction.runs)
        for (variable, start), amount in direction.amounts.items():
            values = variables.setdefault(variable, np.zeros(system.variables[variable].size))
            values[start + direction.channels] += amount * drawn
    # what arrives behind a factor 0 is 0, whatever is added before it
    felt = {v: np.where(system.variables[v].dead, 0.0, values) for v, values in variables.items()}
    moved: dict[str, FloatArray] = {}
    for absorption in system.absorptions:
        incoming = absorption.incoming
        touched = incoming is not None and any(variable in felt for variable, _ in incoming.terms)
        if touched or any(variable in variables for variable in absorption.variables.values()):
            before = incoming.values(felt) if incoming is not None and touched else None
            if before is not None and "output" in absorption.variables:
                felt[absorption.variables["output"]] = weight_on_constant(absorption.op, before, tensors)
            else:
                moved |= _taken_up(system, absorption, before, variables, tensors)
    return moved


def _taken_up(
    system: ShiftSystem,
    absorption: Absorption,
    incoming: FloatArray | None,
    variables: Mapping[int, FloatArray],
    tensors: Tensors,
) -> dict[str, FloatArray]:
    """What the op's tensors become, so that with `incoming` on its input exactly the variables come out."""
    op, out = absorption.op, {}
    changes: dict[str, FloatArray] = {}
    if op.kind == "batch_norm" and ("running_mean" in absorption.variables or incoming is not None):
        mean = variables.get(absorption.variables.get("running_mean", -1))
        changes["running_mean"] = _mean_change(op, mean, incoming, tensors)
    elif op.kind in ("linear", "conv") and incoming is not None:
        changes["bias"] = -weight_on_constant(op, incoming, tensors)
    if "bias" in absorption.variables and (wanted := variables.get(absorption.variables["bias"])) is not None:
        gain = system.gains.get(absorption.variables["bias"])
        if gain is not None:
            wanted = wanted / np.where(gain == 0, 1.0, gain)
        changes["bias"] = changes.get("bias", 0.0) + wanted
    for role, change in changes.items():
        old = float64(tensors, op.parameters[role])
        out[op.parameters[role]] = old + np.reshape(change, old.shape)
    return out


def batch_norm_factor(op: Op, tensors: Tensors) -> FloatArray:
    """(n,) γ / √(var + ε): what a batch norm in evaluation multiplies by; not finite where a variance is negative."""
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = 1.0 / np.sqrt(vector(tensors, op.parameters["running_var"]) + float(op.attributes.get("eps", 1e-5)))
    return factor * vector(tensors, op.parameters["weight"]) if "weight" in op.parameters else factor


def _mean_change(op: Op, wanted: FloatArray | None, incoming: FloatArray | None, tensors: Tensors) -> FloatArray:
    factor = batch_norm_factor(op, tensors)
    out = np.zeros(len(factor)) if incoming is None else incoming.copy()
    if wanted is not None:
        out -= wanted / np.where(factor == 0, 1.0, factor)
    return out


def weight_on_constant(op: Op, constant: FloatArray, tensors: Tensors) -> FloatArray:
    """What a linear layer or a convolution without padding makes of a constant on its input units."""
    weight = float64(tensors, op.parameters["weight"])
    weight = np.moveaxis(weight, (op.attributes["out_axis"], op.attributes["in_axis"]), (0, 1))
    weight = weight.reshape(*weight.shape[:2], -1).sum(2)
    groups = int(op.attributes.get("groups", 1))
    blocks = weight.reshape(groups, -1, weight.shape[1])
    return np.asarray(np.einsum("goi,gi->go", blocks, constant.reshape(groups, -1)).reshape(-1))
