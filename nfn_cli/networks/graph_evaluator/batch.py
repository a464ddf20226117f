"""networks/graph_evaluator/batch.py: which ops do the same for a batch of any size. Knows kinds and attributes; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nfn_cli.graph.model import Graph, Op

_EACH_ALONE = frozenset(
    {"linear", "conv", "batch_norm", "pointwise", "max_pool", "average_pool", "pool", "spatial_mean", "flatten"}
    | {"filter", "resize", "scalar", "clip", "add", "mul"}
)
_ALONG_AXES = frozenset({"concat", "scale", "softmax", "slice", "layer_norm", "normalize", "rms_normalize", "reduce"})


def stated_batch(graph: Graph) -> int | None:
    """The batch that the graph was captured with, where all its inputs state the same."""
    stated = {entry.shape[0] if entry.shape else None for entry in graph.inputs}
    return stated.pop() if len(stated) == 1 else None


def for_any_batch(graph: Graph) -> Graph | None:
    """The same graph where the batch may have any size; None where that is not to be seen from its ops one by one.

    Every value must then come from the inputs, with the batch as its first axis.
    """
    size = stated_batch(graph)
    ops: list[Op] = []
    for op in graph.ops:
        shape = list(op.attributes["shape"]) if op.kind == "reshape" else []
        if shape and -1 not in shape[1:] and shape[0] in (-1, size):
            ops.append(replace(op, attributes={**op.attributes, "shape": [-1, *shape[1:]]}))
        elif _leaves_batch_alone(op):
            ops.append(op)
        else:
            return None
    return replace(graph, ops=tuple(ops))


def _leaves_batch_alone(op: Op) -> bool:
    """Whether the op makes its value from its inputs alone and acts on no axis that could be the first."""
    if op.kind in _ALONG_AXES:
        axes = op.attributes.get("axes", (op.attributes.get("axis", -1),))
        return all(axis == -1 or axis > 0 for axis in axes)
    if op.kind in _FIRST_AXIS:
        return _FIRST_AXIS[op.kind](op.attributes)
    return op.kind in _EACH_ALONE


_FIRST_AXIS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = MappingProxyType(
    {
        "pad": lambda at: [*at["before"][:1], *at["after"][:1]] == [0, 0],
        "permute": lambda at: [*at["order"][:1]] == [0],
    }
)
