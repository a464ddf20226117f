"""graph/from_onnx/pieces.py: shapes in which exporters write one operation as several, each with the op it stands for."""

from __future__ import annotations

from dataclasses import replace
from math import isclose, prod
from typing import TYPE_CHECKING

from nfn_cli.graph.model import Op

if TYPE_CHECKING:
    from nfn_cli.graph.from_onnx.rewriting import Pieces


def bias(pieces: Pieces, op: Op) -> Op | None:
    """W x, then a vector added, and nobody else reads W x: a layer with a bias."""
    if op.kind != "add" or len(op.inputs) != 2:
        return None
    for computed, vector in (op.inputs, op.inputs[::-1]):
        layer, added = pieces.of(computed, "linear", "conv"), pieces.of(vector, "parameter")
        if layer is None or added is None or "bias" in layer.parameters or not pieces.used_once(computed):
            continue
        if layer.kind == "conv" and "weight" not in layer.parameters:
            continue
        name = added.parameters["value"]
        shape = pieces.tensors[name].shape
        weight = pieces.tensors[layer.parameters["weight"]].shape
        units = weight[layer.attributes["out_axis"]]
        if layer.attributes.get("transposed"):
            units *= int(layer.attributes.get("groups", 1))
        at = -1 if layer.kind == "linear" else 1 - len(weight)
        long = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
        if len(shape) >= -at and prod(shape) == units and long in ([], [at]):
            return replace(layer, output=op.output, parameters={**layer.parameters, "bias": name})
    return None


def frequency(pieces: Pieces, op: Op) -> Op | None:
    """sin(ω z): the factor becomes the frequency, so that phases of z have a period to shift by."""
    if op.kind != "pointwise" or op.attributes["function"] not in ("sin", "cos"):
        return None
    factor = pieces.of(op.inputs[0], "scalar")
    if factor is None or factor.attributes["add"] or not factor.attributes["multiply"]:
        return None
    omega = op.attributes["omega"] * factor.attributes["multiply"]
    return replace(op, inputs=factor.inputs, attributes={**op.attributes, "omega": omega})


def activation(pieces: Pieces, op: Op) -> Op | None:
    """gelu, silu, mish, hardswish and hardsigmoid from their formulas."""
    if op.kind == "scalar":
        inner = pieces.function(op.inputs[0], "relu6")
        moved = pieces.of(inner.inputs[0], "scalar") if inner is not None else None
        if moved is not None and isclose(op.attributes["multiply"], 1 / 6, rel_tol=1e-6) and not op.attributes["add"]:
            found = _affine(moved) == (1.0, 3.0)
            return _pointwise(op, moved.inputs[0], "hardsigmoid") if found else None
    if op.kind not in ("mul", "scalar") or op.attributes.get("add"):
        return None
    factor, leaves = _factors(pieces, op)
    if len(leaves) != 2:
        return None
    for x, gate in (leaves, leaves[::-1]):
        function = _gated(pieces, x, gate, factor)
        if function is not None:
            return _pointwise(op, x, function)
    return None


def _gated(pieces: Pieces, x: str, gate: str, factor: float) -> str | None:
    """The function factor · x · gate(x), where it has a name."""
    found = pieces.of(gate)
    if found is None:
        return None
    if found.kind == "pointwise" and isclose(factor, 1.0, rel_tol=1e-6):
        inner = pieces.function(found.inputs[0], "softplus") if found.attributes["function"] == "tanh" else None
        if inner is not None and inner.inputs[0] == x:
            return "mish"
        named = {"sigmoid": "silu", "hardsigmoid": "hardswish"}.get(found.attributes["function"])
        return named if found.inputs[0] == x else None
    if found.kind == "pointwise" and found.attributes["function"] == "relu6" and isclose(factor, 1 / 6, rel_tol=1e-6):
        moved = pieces.of(found.inputs[0], "scalar")
        return "hardswish" if moved is not None and _affine(moved) == (1.0, 3.0) and moved.inputs[0] == x else None
    if found.kind != "scalar" or found.attributes["multiply"] != found.attributes["add"]:
        return None
    error = pieces.function(found.inputs[0], "erf")
    inner = pieces.of(error.inputs[0], "scalar") if error is not None else None
    if inner is None or inner.inputs[0] != x or inner.attributes["add"]:
        return None
    half = isclose(factor * found.attributes["add"], 0.5, rel_tol=1e-6)
    return "gelu" if half and isclose(inner.attributes["multiply"], 0.5**0.5, rel_tol=1e-6) else None


def _factors(pieces: Pieces, op: Op) -> tuple[float, list[str]]:
    """A product as one number and the values that are multiplied (as far as three levels of it)."""
    factor, leaves, open_ops = 1.0, list[str](), [(op, 0)]
    while open_ops:
        current, depth = open_ops.pop()
        factor *= current.attributes.get("multiply", 1.0)
        for name in current.inputs:
            maker = pieces.of(name, "mul", "scalar")
            if maker is None or depth > 2 or maker.attributes.get("add"):
                leaves.append(name)
            else:
                open_ops.append((maker, depth + 1))
    return factor, leaves


def _affine(op: Op) -> tuple[float, float]:
    return op.attributes["multiply"], op.attributes["add"]


def _pointwise(op: Op, x: str, function: str) -> Op:
    return Op("pointwise", (x,), op.output, {}, {"function": function})


def normalization(pieces: Pieces, op: Op) -> Op | None:
    """(x − mean) / sqrt(mean((x − mean)²) + ε)."""
    found = _over_root(pieces, op)
    if found is None:
        return None
    centred, axes, eps = found
    difference = pieces.of(centred, "add")
    if difference is None or len(difference.inputs) != 2:
        return None
    for x, subtracted in (difference.inputs, difference.inputs[::-1]):
        negative = pieces.of(subtracted, "scalar")
        if negative is not None and _affine(negative) == (-1.0, 0.0) and _mean(pieces, negative.inputs[0]) == (x, axes):
            return Op("normalize", (x,), op.output, {}, {"axes": axes, "eps": eps})
    return None


def root_mean_square(pieces: Pieces, op: Op) -> Op | None:
    """x / sqrt(mean(x²) + ε); comes after `normalization`, which has the same end."""
    found = _over_root(pieces, op) if op.kind == "mul" else None
    return Op("rms_normalize", (found[0],), op.output, {}, {"axes": found[1], "eps": found[2]}) if found else None


def _over_root(pieces: Pieces, op: Op) -> tuple[str, list[int], float] | None:
    """(x, axes, ε) of x / sqrt(mean(x², axes) + ε)."""
    if op.kind != "mul" or len(op.inputs) != 2:
        return None
    for x, inverse in (op.inputs, op.inputs[::-1]):
        outer = pieces.function(inverse, "reciprocal", "rsqrt")
        root = outer
        if outer is not None and outer.attributes["function"] == "reciprocal":
            root = pieces.function(outer.inputs[0], "sqrt")
        moved = pieces.of(root.inputs[0], "scalar") if root is not None else None
        mean = _mean(pieces, moved.inputs[0]) if moved is not None and moved.attributes["multiply"] == 1.0 else None
        if mean is not None and moved is not None and _is_square(pieces, mean[0], x):
            return x, mean[1], float(moved.attributes["add"])
    return None


def _is_square(pieces: Pieces, name: str, x: str) -> bool:
    square, product = pieces.function(name, "square"), pieces.of(name, "mul")
    return (square is not None and square.inputs == (x,)) or (product is not None and product.inputs == (x, x))


def _mean(pieces: Pieces, name: str) -> tuple[str, list[int]] | None:
    """What a value is the mean of, and over which axes."""
    op = pieces.of(name, "reduce", "pool")
    if op is None or op.attributes["statistic"] not in ("mean", "average"):
        return None
    if op.kind == "pool":
        size = op.attributes["size"]
        return (op.inputs[0], list(range(2, 2 + len(size)))) if all(n == 1 for n in size) else None
    return op.inputs[0], list(op.attributes["axes"])


def group_norm(pieces: Pieces, op: Op) -> Op | None:
    """(N, C, S) seen as (N, G, rest), each normalized, and seen as (N, C, S) again."""
    if op.kind != "reshape":
        return None
    normal = pieces.of(op.inputs[0], "normalize")
    cut = pieces.of(normal.inputs[0], "reshape") if normal is not None else None
    if normal is None or cut is None or normal.attributes.get("groups") or len(op.attributes["shape"]) < 2:
        return None
    shape, parts = list(op.attributes["shape"]), list(cut.attributes["shape"])
    if list(normal.attributes["axes"]) != list(range(2, len(parts))) or len(parts) < 3 or parts[0] != shape[0]:
        return None
    before = pieces.shape(cut.inputs[0])
    if before != shape or shape[1] % parts[1]:
        return None
    attributes = {"axes": list(range(1, len(shape))), "eps": normal.attributes["eps"], "groups": parts[1]}
    return Op("normalize", cut.inputs, op.output, {}, attributes)


def flattened(pieces: Pieces, op: Op) -> Op | None:
    """(N, C, S) → (N, C·|S|) between convolutions and a linear layer, perhaps with channels moved behind positions first."""
    if op.kind != "reshape" or len(op.attributes["shape"]) != 2:
        return None
    x, order = op.inputs[0], "channel_outer"
    shape = pieces.shape(x)
    moved = pieces.of(x, "permute")
    if moved is not None and list(moved.attributes["order"]) == [0, *range(2, len(moved.attributes["order"])), 1]:
        x, order = moved.inputs[0], "channel_inner"
        shape = pieces.shape(x)
    if shape is None or len(shape) < 3 or shape[0] != op.attributes["shape"][0]:
        return None
    if set(pieces.readers.get(op.output, ())) != {"linear"} or op.output in pieces.outputs:
        return None
    if not _from_convolution(pieces, x):
        return None
    return Op("flatten", (x,), op.output, {}, {"order": order, "positions": prod(shape[2:])})


def _from_convolution(pieces: Pieces, name: str) -> bool:
    """Whether the units of a value lie on its second axis alone, as a convolution or an input of the network has them."""
    while (op := pieces.of(name)) is not None and op.kind != "conv":
        if len(op.inputs) != 1 or op.kind not in (
            "pointwise",
            "batch_norm",
            "max_pool",
            "average_pool",
            "pool",
            "slice",
        ):
            return False
        name = op.inputs[0]
    return True
