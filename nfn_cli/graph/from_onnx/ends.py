"""graph/from_onnx/ends.py: nodes that are not understood before the first and behind the last weight, cut off.

Whatever is done to an input alone is just another input. What the answer is made of without further weights is frozen,
so that any function of it stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

from nfn_cli.graph.model import Graph, GraphInput, Op


def without_ends(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph between its ends, and notes on what was cut off."""
    graph, notes = _without_head(graph)
    graph = pruned(_without_tail(graph))
    return graph, tuple(note for name, note in notes if any(entry.name == name for entry in graph.inputs))


def _without_head(graph: Graph) -> tuple[Graph, list[tuple[str, str]]]:
    """An opaque op on nothing but inputs gives an input; its own tensors cannot move."""
    given = {entry.name for entry in graph.inputs}
    inputs, ops, notes = list(graph.inputs), [], []
    touched = _tensor_uses(graph.ops)
    for op in graph.ops:
        free = all(name in given for name in op.inputs) and bool(op.inputs)
        shape = op.attributes.get("shape")
        alone = all(touched[name] == 1 for name in op.parameters.values())
        if op.kind == "opaque" and free and alone and shape is not None and len(shape) > 1:
            inputs.append(GraphInput(op.output, tuple(shape)))
            given.add(op.output)
            notes.append((op.output, f"{op.attributes['reason']}: taken as an input"))
            continue
        if free and not op.parameters:
            given.add(op.output)
        ops.append(op)
    return replace(graph, inputs=tuple(inputs), ops=tuple(ops)), notes


def _tensor_uses(ops: tuple[Op, ...]) -> dict[str, int]:
    uses: dict[str, int] = {}
    for op in ops:
        for name in set(op.parameters.values()):
            uses[name] = uses.get(name, 0) + 1
    return uses


def _without_tail(graph: Graph) -> Graph:
    """Outputs replaced by what they are made of, as long as no weight and no understood op comes in between."""
    maker = {op.output: op for op in graph.ops}
    blind: dict[str, bool] = {}
    for op in graph.ops:  # whether an opaque op without tensors lies behind, with no tensor in between
        blind[op.output] = not op.parameters and (op.kind == "opaque" or any(blind.get(n, False) for n in op.inputs))
    outputs: dict[str, None] = {}
    stack, seen = list(reversed(graph.outputs)), set[str]()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if blind.get(name, False):
            stack.extend(reversed(maker[name].inputs))
        elif name not in maker or maker[name].kind != "constant":
            outputs[name] = None
    kept = [name for name in outputs if name in maker] or list(outputs)
    return replace(graph, outputs=tuple(kept))


def pruned(graph: Graph) -> Graph:
    """Without ops and inputs that lead to no output."""
    needed = set(graph.outputs)
    kept = []
    for op in reversed(graph.ops):
        if op.output in needed:
            needed.update(op.inputs)
            kept.append(op)
    inputs = tuple(entry for entry in graph.inputs if entry.name in needed)
    return replace(graph, inputs=inputs, ops=tuple(reversed(kept)))
