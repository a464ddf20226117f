"""canonical/norms/path_norm.py: sums over all paths of a network of the product of the weights on them. Knows graphs; no symmetry.

ℓp path norm (Neyshabur, Tomioka, Srebro 2015, arXiv 1503.00036): (Σ over paths Π |w|^p)^(1/p), which is what the network answers
to an input of ones when every weight is |w|^p and activations pass everything, to the power 1/p. Paths begin at inputs and at
biases, as in Gonon et al. 2024 (arXiv 2310.01225). Rescaling a unit leaves every path's product as it is.

What is not a path: an activation multiplies by its largest slope and, where σ(0) ≠ 0, adds |σ(0)| as a bias does; max pooling
passes its largest value; a sigmoid that multiplies counts as 1, its bound; a batch norm is the linear map it is in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, pi, prod, sqrt
from typing import Any

import numpy as np

from nfn_cli.canonical.norms.layers import Tensors, batch_norm_gain, batch_norm_shift, folded_norms
from nfn_cli.errors import Refused
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Op
from nfn_cli.graph.reference import random_inputs
from nfn_cli.graph.reference_registry import EVALUATORS, Reader
from nfn_cli.symmetry.element import FloatArray

# (largest slope, |σ(0)|); sin and cos times ω
_SLOPES = {
    **dict.fromkeys(("identity", "relu", "tanh", "softsign", "hardtanh", "arctan", "tanhshrink"), (1.0, 0.0)),
    **dict.fromkeys(("asinh", "abs", "elu", "celu", "relu6", "sin"), (1.0, 0.0)),
    "erf": (2 / sqrt(pi), 0.0),
    "gelu": (1.129, 0.0),
    "gelu_tanh": (1.130, 0.0),
    "silu": (1.100, 0.0),
    "selu": (1.0507009873554805 * 1.6732632423543772, 0.0),
    "mish": (1.089, 0.0),
    "hardswish": (1.5, 0.0),
    "cos": (1.0, 1.0),
    "gaussian": (sqrt(2 / np.e), 1.0),
    "sigmoid": (0.25, 0.5),
    "hardsigmoid": (1 / 6, 0.5),
    "softplus": (1.0, log(2)),
    "logsigmoid": (1.0, log(2)),
}
_GATES = frozenset({"sigmoid", "hardsigmoid"})
_MOVES = frozenset({"reshape", "permute", "expand", "slice", "flatten", "concat"})


class Unmeasured(Exception):
    """A path norm is not defined here; the text says why."""


@dataclass(frozen=True)
class _Walk:
    """What the rules need to know.

    Attributes:
        power: p.
        folded: see `folded_norms`.
        gates: values that only multiply others and are at most 1.
        factors: values that are a number for each entry whatever the input: parameters, constants and gates.
    """

    graph: Graph
    tensors: Tensors
    power: int
    folded: dict[str, str]
    gates: frozenset[str]
    factors: frozenset[str]

    def powered(self, values: Any) -> FloatArray:
        return np.asarray(np.abs(np.asarray(values).astype(np.float64)) ** self.power)

    def per_entry(self, mean: FloatArray, count: float) -> FloatArray:
        """A mean of `count` entries: each path is multiplied by (1/count)^p, not by 1/count."""
        return np.asarray(mean * count ** (1.0 - self.power))


Rule = Callable[[Op, Sequence[FloatArray], _Walk], FloatArray]
_RULES: dict[str, Rule] = {}


def _rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def path_norm(graph: Graph, tensors: Tensors, power: int) -> float:
    """The ℓp path norm of all outputs, at an input of ones of the shape that `path_input` gives.

    Raises:
        Unmeasured: an op is no sum of products of weights, nor bounded by one.
    """
    walk = _walk(graph, tensors, power)
    values = {name: np.ones(shape) for name, shape in path_input(graph).items()}
    last = {name: position for position, op in enumerate(graph.ops) for name in op.inputs}
    for position, op in enumerate(graph.ops):
        rule = _RULES.get(op.kind)
        if rule is None:
            raise Unmeasured(f"{op.kind} is no sum over paths")
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                values[op.output] = rule(op, [values[name] for name in op.inputs], walk)
        except (ValueError, IndexError, Refused):
            raise Unmeasured("the network could not be run on an input of ones") from None
        for name in op.inputs:
            if last[name] == position and name not in graph.outputs:
                values.pop(name, None)
    total = sum(float(values[name].sum()) for name in graph.outputs)
    return float(total ** (1.0 / power))


def path_input(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of each input with a batch of one; axes of unknown size get the size of the numerical check."""
    return {name: array.shape for name, array in random_inputs(graph, 0, batch=1).items()}


def _walk(graph: Graph, tensors: Tensors, power: int) -> _Walk:
    readers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)

    def only_multiplies(value: str) -> bool:
        mine = readers.get(value, [])
        moved = all(op.kind == "mul" or (op.kind in _MOVES and only_multiplies(op.output)) for op in mine)
        return bool(mine) and moved and value not in graph.outputs

    gates, factors = set(), set()
    for op in graph.ops:
        if op.kind == "pointwise" and op.attributes["function"] in _GATES and only_multiplies(op.output):
            gates.add(op.output)
            factors.add(op.output)
        elif all(name in factors for name in op.inputs) and (op.inputs or op.kind in ("parameter", "constant")):
            factors.add(op.output)
    return _Walk(graph, tensors, power, folded_norms(graph), frozenset(gates), frozenset(factors))


def _run(op: Op, inputs: Sequence[FloatArray], parameters: dict[str, FloatArray]) -> FloatArray:
    """The reference evaluator's function of this op on other parameters."""
    return EVALUATORS[op.kind](op, inputs, Reader(parameters, {name: a.shape for name, a in parameters.items()}))


@_rule("linear", "conv")
def _layer(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    if len(inputs) > 1:
        raise Unmeasured("a weight is computed")
    roles = {role: name for role, name in op.parameters.items() if role == "weight" or op.output not in walk.folded}
    bare = Op(op.kind, op.inputs, op.output, roles, op.attributes)
    return _run(bare, inputs, {name: walk.powered(walk.tensors[name]) for name in roles.values()})


@_rule("batch_norm")
def _batch_norm(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    (x,) = inputs
    before = next((layer for layer in walk.graph.ops if walk.folded.get(layer.output) == op.output), None)
    name = None if before is None else before.parameters.get("bias")
    bias = 0.0 if name is None else np.asarray(walk.tensors[name]).reshape(-1).astype(np.float64)
    gain, shift = (
        walk.powered(batch_norm_gain(op, walk.tensors)),
        walk.powered(batch_norm_shift(op, walk.tensors, bias)),
    )
    along = (1, -1, *(1 for _ in x.shape[2:]))
    return x * gain.reshape(along) + shift.reshape(along)


@_rule("pointwise")
def _pointwise(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    (x,) = inputs
    function = op.attributes["function"]
    if op.output in walk.gates:
        return np.ones_like(x)
    if function in ("leaky_relu", "prelu"):
        if "weight" in op.parameters:
            slopes = np.abs(np.asarray(walk.tensors[op.parameters["weight"]]).reshape(-1).astype(np.float64))
            slopes = slopes if slopes.size == 1 else slopes.reshape(1, -1, *(1 for _ in x.shape[2:]))
        else:
            slopes = np.abs(np.asarray(op.attributes.get("slope", ACTIVATIONS[function].parameter), np.float64))
        return x * walk.powered(np.maximum(slopes, 1.0))
    if function not in _SLOPES:
        raise Unmeasured(f"{function} has no largest slope")
    slope, offset = _SLOPES[function]
    slope *= abs(float(op.attributes.get("omega", 1.0))) if function in ("sin", "cos") else 1.0
    return x * slope**walk.power + offset**walk.power


@_rule("mul")
def _mul(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    if sum(name not in walk.factors for name in op.inputs) > 1:
        raise Unmeasured("two values that depend on the input are multiplied")
    return _run(op, inputs, {})


@_rule("add", "concat", "reshape", "permute", "expand", "slice", "flatten", "max_pool")
def _unchanged(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    return _run(op, inputs, {})


@_rule("average_pool")
def _average_pool(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    kernel, spatial = op.attributes["kernel"], inputs[0].ndim - 2
    # windows over the border count as full ones
    return walk.per_entry(_run(op, inputs, {}), kernel**spatial if isinstance(kernel, int) else prod(kernel))


@_rule("pool")
def _pool(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    out = _run(op, inputs, {})
    average = op.attributes.get("statistic", "unknown") == "average"
    return walk.per_entry(out, inputs[0].size / out.size) if average else out


@_rule("spatial_mean")
def _spatial_mean(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    return walk.per_entry(_run(op, inputs, {}), prod(inputs[0].shape[2:]))


@_rule("reduce")
def _reduce(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    statistic = op.attributes["statistic"]
    if statistic not in ("mean", "sum", "max", "min"):
        raise Unmeasured(f"a {statistic} is no sum over paths")
    largest = Op("reduce", op.inputs, op.output, {}, {**op.attributes, "statistic": "max"})
    out = _run(largest if statistic == "min" else op, inputs, {})
    return walk.per_entry(out, inputs[0].size / out.size) if statistic == "mean" else out


@_rule("resize")
def _resize(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    if op.attributes["mode"] != "nearest" and walk.power != 1:
        raise Unmeasured("interpolation has weights of its own")
    return _run(op, inputs, {})


@_rule("filter")
def _filter(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    kernel = walk.powered(op.attributes["kernel"]).tolist()
    return _run(Op("filter", op.inputs, op.output, {}, {**op.attributes, "kernel": kernel}), inputs, {})


@_rule("pad")
def _pad(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    value = abs(float(op.attributes.get("value", 0.0))) ** walk.power
    return _run(Op("pad", op.inputs, op.output, {}, {**op.attributes, "value": value}), inputs, {})


@_rule("scale")
def _scale(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    name = op.parameters["weight"]
    return _run(op, inputs, {name: walk.powered(walk.tensors[name])})


@_rule("scalar")
def _scalar(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    multiply, add = (
        abs(float(op.attributes.get(key, d))) ** walk.power for key, d in (("multiply", 1.0), ("add", 0.0))
    )
    return inputs[0] * multiply + add


@_rule("parameter")
def _parameter(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    return walk.powered(walk.tensors[op.parameters["value"]])


@_rule("constant")
def _constant(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    return walk.powered(op.attributes["value"])


@_rule("clip")
def _clip(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    low, high = op.attributes.get("low"), op.attributes.get("high")
    if (low is not None and low > 0) or (high is not None and high < 0):
        raise Unmeasured("a value is clipped to a range without 0")
    return inputs[0]


@_rule("softmax")
def _softmax(op: Op, inputs: Sequence[FloatArray], walk: _Walk) -> FloatArray:
    if op.output not in walk.graph.outputs:
        raise Unmeasured("softmax is no sum over paths")
    return inputs[0]  # what is measured are the logits
