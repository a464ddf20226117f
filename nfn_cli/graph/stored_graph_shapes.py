"""graph/stored_graph_shapes.py: whether the ops of a stored graph fit their tensors and values. Knows JSON values only.

Ranks of values are followed as far as ops tell them; sizes are left to whoever runs the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nfn_cli.errors import Refused

_SAME_RANK = frozenset(
    {"linear", "batch_norm", "layer_norm", "pointwise", "max_pool", "average_pool", "pool", "scale", "scalar"}
    | {"normalize", "rms_normalize", "softmax", "clip", "filter", "resize", "pad", "slice", "reduce"}
)
_CHANNELS = frozenset({"batch_norm", "max_pool", "average_pool", "pool", "spatial_mean", "flatten", "filter", "resize"})
_ORDERS = ("channel_outer", "channel_inner")
_STEPS = ("stride", "padding", "dilation", "output_padding")

Rank = int | None


def check_op_shapes(op: list[Any], ranks: Mapping[str, Rank], tensors: Mapping[str, list[int]], where: str) -> Rank:
    """The rank of the op's value, None where it is not known.

    Args:
        op: kind, inputs, output, parameters, attributes, each of its type.
        ranks: of the values known so far.
        tensors: shapes.

    Raises:
        Refused: axes, steps, biases or statistics that do not fit the weight, or a weight that does not fit the value.
    """
    kind, inputs, _, roles, attributes = op
    reads: list[Rank] = [ranks[name] for name in inputs]
    shapes = {role: tensors[name] for role, name in roles.items()}
    if kind in _CHANNELS and (reads[0] or 2) < 2:
        raise _bad(f"{kind} reads a value without channels", where)
    if kind == "conv" and len(inputs) != (1 if "weight" in shapes else 2):
        raise _bad("a convolution has a weight of its own or reads one", where)
    if kind in ("max_pool", "average_pool") and not _whole(attributes["kernel"]):
        raise _bad("the kernel of a pooling is no size", where)
    if kind == "permute" and not _permutes(attributes["order"], reads[0]):
        raise _bad("the order of a permute is no permutation of the axes", where)
    if kind == "flatten" and attributes.get("order", _ORDERS[0]) not in _ORDERS:
        raise _bad(f"a flatten has no such order, only {' or '.join(_ORDERS)}", where)
    if kind in ("linear", "conv"):
        _check_weight(kind, reads[0], shapes, attributes, where)
    elif kind == "batch_norm" and (len({tuple(shape) for shape in shapes.values()}) != 1 or _rank(shapes) != 1):
        raise _bad("the tensors of a batch norm are not vectors of one length", where)
    if kind == "conv":
        return len(shapes["weight"]) if "weight" in shapes else reads[0]
    if kind == "permute":
        return len(attributes["order"])
    if kind in ("flatten", "spatial_mean"):
        return 2
    return reads[0] if kind in _SAME_RANK else None


def _check_weight(
    kind: str, read: Rank, shapes: Mapping[str, list[int]], attributes: Mapping[str, Any], where: str
) -> None:
    axes = [attributes["out_axis"], attributes["in_axis"]]
    rank = len(shapes["weight"]) if "weight" in shapes else None
    if rank is not None:
        if axes[0] == axes[1] or not all(0 <= axis < rank for axis in axes):
            raise _bad(f"the axes {axes} are not two of the {rank} of its weight", where)
        if kind == "linear" and rank != 2:
            raise _bad(f"the weight of a linear layer has {rank} axes", where)
        steps = [attributes[name] for name in _STEPS if isinstance(attributes.get(name), list)]
        if any(len(step) != rank - 2 for step in steps):
            raise _bad("strides, paddings or dilations do not fit the kernel", where)
        bias = shapes.get("bias")
        groups = attributes.get("groups", 1)
        outgoing = shapes["weight"][axes[0]] * (groups if attributes.get("transposed") else 1)
        if bias is not None and bias != [outgoing]:
            raise _bad(f"the bias of {bias} does not fit {outgoing} outputs", where)
    if read is not None and (read < 1 or (kind == "conv" and read != (read if rank is None else rank))):
        raise _bad(f"{kind} reads a value of {read} axes", where)


def _whole(value: Any) -> bool:
    return all(type(n) is int and n > 0 for n in (value if isinstance(value, list) else [value]))


def _permutes(order: Any, rank: Rank) -> bool:
    return isinstance(order, list) and sorted(order, key=repr) == sorted(range(rank or len(order)), key=repr)


def _rank(shapes: Mapping[str, list[int]]) -> int:
    return max((len(shape) for shape in shapes.values()), default=0)


def _bad(what: str, where: str) -> Refused:
    return Refused(f"the stored graph is damaged: {what}", where=where, code="bad-graph")
