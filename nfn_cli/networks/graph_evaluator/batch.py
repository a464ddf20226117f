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

    Every value then has the batch as its first axis, and every row of it comes from the same row of the inputs.
    """
    size = stated_batch(graph)
    ranks = {entry.name: len(entry.shape) for entry in graph.inputs}
    ops: list[Op] = []
    for op in graph.ops:
        rank = _rank(op, {ranks[name] for name in op.inputs}, size)
        if rank is None:
            return None
        ranks[op.output] = rank
        opened = {"shape": [-1, *op.attributes["shape"][1:]]} if op.kind == "reshape" else {}
        ops.append(replace(op, attributes={**op.attributes, **opened}) if opened else op)
    inputs = tuple(replace(entry, shape=(None, *entry.shape[1:])) for entry in graph.inputs)
    return replace(graph, inputs=inputs, ops=tuple(ops))


def _rank(op: Op, ranks: set[int], size: int | None) -> int | None:
    """Number of axes of the op's value; None where its rows may not be those of its inputs alone."""
    if len(ranks) != 1 or min(ranks) < 2 or not _leaves_rows_alone(op, size):
        return None
    (rank,) = ranks
    return {"reshape": len(op.attributes.get("shape", ())), "spatial_mean": 2, "flatten": 2}.get(op.kind, rank)


def _leaves_rows_alone(op: Op, size: int | None) -> bool:
    """Whether the op, on values of one rank with the batch first, acts on no axis that could be the first."""
    if op.kind in _ALONG_AXES:
        axes = op.attributes.get("axes", (op.attributes.get("axis", -1),))
        return all(axis == -1 or axis > 0 for axis in axes)
    if op.kind == "reshape":  # to the batch that the inputs state: what is left of the shape is that of a row
        shape = op.attributes["shape"]
        return len(shape) > 1 and shape[0] == size and min(shape[1:]) > 0
    if op.kind in _FIRST_AXIS:
        return _FIRST_AXIS[op.kind](op.attributes)
    # a convolution of two inputs has a weight that is computed from a batch
    return op.kind in _EACH_ALONE and (op.kind != "conv" or len(op.inputs) == 1)


_FIRST_AXIS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = MappingProxyType(
    {
        "pad": lambda at: [*at["before"][:1], *at["after"][:1]] == [0, 0],
        "permute": lambda at: [*at["order"][:1]] == [0],
    }
)
