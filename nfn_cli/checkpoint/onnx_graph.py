"""checkpoint/onnx_graph.py: an ONNX graph as plain data: nodes in order, shapes as stated, functions put in place.

Knows protobuf messages of onnx and no operation; what a node means is for the graph room to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_MOST_NODES = 100_000

_FLOATS = (1, 10, 11, 16)  # TensorProto: float, float16, double, bfloat16

# one entry an axis: its length, the name of a length that the file leaves open, or None
Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        kind: operation, with the domain before it where that is not ONNX' own.
        name: of the node; may be empty.
        inputs, outputs: names of values, "" where an optional one is missing.
        attributes: plain values and arrays.
        captured: values of this graph that graphs inside the node read.
        message: the NodeProto, for shape inference alone.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    captured: tuple[str, ...] = ()
    message: Any = field(default=None, compare=False, repr=False)

    @property
    def reads(self) -> tuple[str, ...]:
        return (*(name for name in self.inputs if name), *self.captured)


@dataclass(frozen=True)
class OnnxGraph:
    """The graph as plain data.

    Attributes:
        nodes: each after the nodes it reads.
        inputs: names of values fed from outside (initializers that may be fed are not among them).
        outputs: names of the values that are the answer.
        dims: shapes that the file states, of inputs and of other values.
        floats: inputs of a floating type.
        constants: numbers and texts that stand in the graph and are no weights.
        opset: version of ONNX' own operations.
        model: the ModelProto it comes from, kept for the writer.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dims: Mapping[str, Dims]
    floats: frozenset[str]
    constants: Mapping[str, Array]
    opset: int
    model: Any = field(compare=False, repr=False)


def array_of(tensor: Any, name: str) -> Array:
    """A TensorProto as an array.

    Raises:
        Refused: its bytes are not what its shape needs, or its element type is unknown (code "bad-header").
    """
    from onnx import numpy_helper

    try:
        if any(size < 0 for size in tensor.dims):
            raise ValueError
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception:  # onnx raises many kinds on damaged tensors
        raise Refused("the tensor is damaged", where=printable(name), code="bad-header") from None


def plain_graph(model: Any, weights: frozenset[str]) -> OnnxGraph:
    """The main graph of a model.

    Args:
        weights: names of the tensors that are kept as weights.

    Raises:
        Refused: a cycle, a value made twice, damaged constants, functions that cannot be put in place, too many nodes.
    """
    graph = _without_functions(model).graph
    if len(graph.node) > _MOST_NODES:
        raise Refused(f"the graph has more than {_MOST_NODES:,} nodes", code="too-large")
    constants = {t.name: array_of(t, t.name) for t in model.graph.initializer if t.name not in weights}
    nodes = []
    for message in graph.node:
        if message.op_type == "Constant" and message.domain in ("", "ai.onnx") and message.output:
            if message.output[0] not in weights:
                constants[message.output[0]] = _constant(message)
        else:
            nodes.append(_node(message))
    known = weights | constants.keys()
    return OnnxGraph(
        _in_order(nodes),
        tuple(value.name for value in graph.input if value.name not in known),
        tuple(value.name for value in graph.output),
        _stated(graph),
        frozenset(value.name for value in graph.input if value.type.tensor_type.elem_type in _FLOATS),
        constants,
        next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1),
        model,
    )


def _constant(message: Any) -> Array:
    for attribute in message.attribute:
        if attribute.name == "value":
            return array_of(attribute.t, message.output[0])
        if attribute.name in ("value_int", "value_ints"):
            return np.array(attribute.i if attribute.name == "value_int" else list(attribute.ints), np.int64)
        if attribute.name in ("value_float", "value_floats"):
            return np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float32)
    return np.array("", object)  # texts and sparse tensors: no operation here computes with them


def _node(message: Any) -> Node:
    from onnx import helper

    attributes: dict[str, Any] = {}
    captured: dict[str, None] = {}
    for attribute in message.attribute:
        if attribute.type == attribute.TENSOR:
            attributes[attribute.name] = array_of(attribute.t, f"{message.name} {attribute.name}")
        elif attribute.type in (attribute.GRAPH, attribute.GRAPHS):
            for inner in (attribute.g, *attribute.graphs):
                captured.update(dict.fromkeys(_outer_reads(inner)))
        elif attribute.type in (attribute.FLOAT, attribute.FLOATS, attribute.INT, attribute.INTS, attribute.STRING):
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    domain = f"{message.domain}." if message.domain not in ("", "ai.onnx") else ""
    return Node(
        domain + message.op_type,
        message.name,
        tuple(message.input),
        tuple(message.output),
        attributes,
        tuple(captured),
        message,
    )


def _outer_reads(graph: Any) -> Iterator[str]:
    """Names that an inner graph takes from outside (protobuf nests no deeper than a hundred messages)."""
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own.update(output for node in graph.node for output in node.output)
    for node in graph.node:
        yield from (name for name in node.input if name and name not in own)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from (name for name in _outer_reads(inner) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)


def _in_order(nodes: list[Node]) -> tuple[Node, ...]:
    """Nodes after those they read (files in the wild are not always sorted)."""
    maker: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for output in node.outputs:
            if output and output in maker:
                raise Refused("a value that two nodes make", where=printable(output), code="bad-graph")
            maker[output] = index
    maker.pop("", None)
    sources = [{maker[name] for name in node.reads if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, found in enumerate(sources):
        for source in sorted(found):
            readers.setdefault(source, []).append(index)
    waiting = [len(found) for found in sources]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    for index in ready:  # grows while it is walked
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(ready) < len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if waiting[index])
        raise Refused("the graph has a cycle", where=printable(stuck.name or stuck.outputs[0]), code="bad-graph")
    return tuple(nodes[index] for index in ready)


def _stated(graph: Any) -> dict[str, Dims]:
    found: dict[str, Dims] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else (d.dim_param or None) for d in dims
            )
    return found


def _without_functions(model: Any) -> Any:
    """The model with its functions put in place of their calls; weights are left out of the copy, only names matter."""
    if not model.functions:
        return model
    try:
        from onnx.inliner import inline_local_functions
    except ImportError:
        raise Refused("the model has functions", fix="needs onnx 1.15 or newer", code="functions") from None
    if _inlined_size(model) > _MOST_NODES:
        raise Refused(f"the graph has more than {_MOST_NODES:,} nodes", code="too-large")
    skeleton = type(model)(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    for part in ("node", "input", "output", "value_info"):
        getattr(skeleton.graph, part).extend(getattr(model.graph, part))
    for initializer in model.graph.initializer:
        skeleton.graph.initializer.add(name=initializer.name, data_type=initializer.data_type, dims=initializer.dims)
    skeleton.graph.name = model.graph.name or "graph"
    try:
        return inline_local_functions(skeleton)
    except Exception as error:  # onnx raises many kinds
        reason = printable(str(error).split("\n")[0], 100)
        raise Refused(f"the functions of the model cannot be put in place ({reason})", code="functions") from None


def _inlined_size(model: Any) -> int:
    """Nodes there would be, before any is made: functions that call functions double at every level."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], open_calls: tuple[tuple[str, str], ...]) -> int:
        if key in open_calls or len(open_calls) > 100:
            raise Refused("functions that call themselves", where=printable(key[1]), code="functions")
        if key not in sizes:
            sizes[key] = sum(
                size((n.domain, n.op_type), (*open_calls, key)) if (n.domain, n.op_type) in bodies else 1
                for n in bodies[key].node
            )
        return sizes[key]

    calls = [(n.domain, n.op_type) for n in model.graph.node]
    return sum(size(call, ()) if call in bodies else 1 for call in calls)
