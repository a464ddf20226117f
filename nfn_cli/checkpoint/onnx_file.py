"""checkpoint/onnx_file.py: an ONNX model: initializers as tensors, nodes as plain data, and the same model written again.

onnx is an optional extra. Nothing in a model is ever run. Specification: https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.printable import printable

_LARGEST_MESSAGE = 2**31 - 1  # bytes; protobuf holds no more


@dataclass(frozen=True)
class Node:
    """One node: names of values in and out ("" where an optional one is missing), attributes as plain values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """The graph as plain data; shapes hold None where an axis is not known."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int | None, ...]]
    constants: Mapping[str, Array]
    model: Any


def read_onnx(path: Path) -> Checkpoint:
    """Read a model with its external data.

    Raises:
        SurroundingsFailed: the extra `onnx` is not installed.
        Refused: damaged, external data missing, functions or subgraphs.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise SurroundingsFailed(
            "reading ONNX files needs the package onnx", fix="pip install 'nfn-cli[onnx]'", code="missing-extra"
        ) from None
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf, and the checks of onnx on external data, raise many kinds
        reason = printable(str(error).split("\n")[0], 100)
        if isinstance(error, OSError) or "external" in reason.lower() or "should be stored in" in reason:
            raise Refused(
                f"external data of the ONNX model is missing ({reason})",
                fix="put it beside the model",
                code="missing-external-data",
            ) from None
        raise Refused(f"the ONNX model cannot be read ({reason})", fix="export it again", code="truncated") from None
    graph = model.graph
    tensors: dict[str, Array] = {}
    for initializer in graph.initializer:
        try:
            array = np.asarray(numpy_helper.to_array(initializer))
        except Exception:
            raise Refused("the initializer is damaged", where=printable(initializer.name), code="bad-header") from None
        array.flags.writeable = False
        tensors[initializer.name] = array
    frozen = MappingProxyType(tensors)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Checkpoint(
        str(path),
        "onnx",
        frozen,
        metadata=MappingProxyType(metadata),
        hints=hints_in(metadata, "metadata"),
        payload=Origin((path,), frozen, content=_plain(model, set(tensors))),
    )


def write_onnx(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the model with new initializers; nodes, names and metadata stay. External data moves into the file."""
    from onnx import ModelProto, numpy_helper

    origin = origin_of(checkpoint)
    model = ModelProto()
    model.CopyFrom(origin.content.model)
    for initializer in model.graph.initializer:
        name = initializer.name
        before, after = origin.tensors[name], checkpoint.tensors[name]
        if after is not before:
            try:
                after = cast_back(np.asarray(after), before.dtype)
            except Refused as error:
                raise error.located(printable(name)) from None
            initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(after), name))
    if model.ByteSize() > _LARGEST_MESSAGE:
        raise Refused("the model is larger than one ONNX file can be (2 GB)", code="too-large")
    with atomic_output(out, force) as handle:
        handle.write(model.SerializeToString(deterministic=True))
    return ()


def _in_order(nodes: Any) -> list[Any]:
    """Nodes after those they read (files in the wild are not always sorted, and shape inference needs it)."""
    maker = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    waiting = [len({maker[entry] for entry in node.input if entry in maker}) for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for source in {maker[entry] for entry in node.input if entry in maker}:
            readers.setdefault(source, []).append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    for index in ready:  # grows while it is walked
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    return [nodes[index] for index in ready]


def _plain(model: Any, initializers: set[str]) -> OnnxGraph:
    from onnx import helper, numpy_helper, shape_inference

    graph = model.graph
    try:
        ordered = type(model)()
        ordered.CopyFrom(model)
        del ordered.graph.node[:]
        ordered.graph.node.extend(_in_order(graph.node))
        inferred = shape_inference.infer_shapes(ordered).graph
    except Exception:  # inference is a help, not a need
        inferred = graph
    shapes: dict[str, tuple[int | None, ...]] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
            )
    nodes, constants = [], {}
    for node in graph.node:
        attributes = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.type == attribute.TENSOR:
                value = numpy_helper.to_array(value)
            attributes[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if node.op_type == "Constant" and node.output:
            constants[node.output[0]] = np.asarray(next(iter(attributes.values()), 0))
            continue
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        nodes.append(Node(domain + node.op_type, node.name, tuple(node.input), tuple(node.output), attributes))
    inputs = tuple(value.name for value in graph.input if value.name not in initializers)
    return OnnxGraph(tuple(nodes), inputs, tuple(v.name for v in graph.output), shapes, constants, model)
