"""graph/refit.py: a graph for another number of classes. Shapes only; no tensor, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nfn_cli.graph.model import Graph, Op

Shape = tuple[int, ...]

# what may stand between the layer that makes the answer and the answer, with the classes on an axis of their own
_BEHIND_A_HEAD = frozenset(
    {"pointwise", "scalar", "clip", "softmax", "pool", "average_pool", "max_pool", "spatial_mean", "reduce", "reshape"}
    | {"flatten"}
)


def refitted(graph: Graph, shapes: Mapping[str, Shape]) -> Graph | None:
    """The graph with these shapes of its tensors, or None where more than the number of classes differs.

    Only the output axis of a layer whose answer leads to nothing but an output may have another length.
    """
    different = {name: shapes.get(name) for name, shape in graph.parameter_shapes.items() if shapes.get(name) != shape}
    if not different:
        return graph
    reads: dict[str, int] = {}
    for op in graph.ops:
        for name in op.inputs:
            reads[name] = reads.get(name, 0) + 1
    made_by = {op.output: op for op in graph.ops}
    changed: dict[str, Op] = {}
    for output in graph.outputs:
        behind, head = _head(output, made_by, reads)
        if head is None or "weight" not in head.parameters:
            continue
        classes = graph.parameter_shapes[head.parameters["weight"]][head.attributes["out_axis"]]
        fitted = _fitting(head, graph, different, shapes)
        if fitted is None:
            return None
        for op in behind:
            if op.kind == "reshape":
                target = list(op.attributes["shape"])
                if fitted != classes and target.count(classes) != 1:
                    return None
                changed[op.output] = replace(
                    op, attributes={**op.attributes, "shape": [fitted if n == classes else n for n in target]}
                )
    if different:
        return None
    ops = tuple(changed.get(op.output, op) for op in graph.ops)
    return replace(graph, ops=ops, parameter_shapes={name: shapes[name] for name in graph.parameter_shapes})


def _head(output: str, made_by: Mapping[str, Op], reads: Mapping[str, int]) -> tuple[list[Op], Op | None]:
    """The ops behind the layer that makes an answer, and that layer; None where something else reads on the way."""
    behind: list[Op] = []
    name, allowed = output, 0
    while (op := made_by.get(name)) is not None and reads.get(name, 0) == allowed:
        if op.kind in ("linear", "conv"):
            return behind, op
        if op.kind not in _BEHIND_A_HEAD or op.parameters or len(op.inputs) != 1:
            break
        behind.append(op)
        name, allowed = op.inputs[0], 1
    return behind, None


def _fitting(head: Op, graph: Graph, different: dict[str, Shape | None], shapes: Mapping[str, Shape]) -> int | None:
    """The head's new number of classes; its tensors are crossed off. None: they differ in more than that."""
    axis = head.attributes["out_axis"]
    weight = head.parameters["weight"]
    found = shapes.get(weight)
    if found is None or head.attributes.get("groups", 1) != 1:
        return None
    count = found[axis] if len(found) > axis else -1
    for role, tensor in head.parameters.items():
        at = axis if role == "weight" else 0
        wanted = list(graph.parameter_shapes[tensor])
        wanted[at] = count
        if shapes.get(tensor) != tuple(wanted):
            return None
        different.pop(tensor, None)
    return count
