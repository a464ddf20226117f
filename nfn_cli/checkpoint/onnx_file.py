"""checkpoint/onnx_file.py: an ONNX model read, its weights as tensors, and the same model written again with new weights.

onnx is an optional extra. Nothing in a model is ever run. Specification: https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back, is_floating
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.onnx_external import load_external_data
from nfn_cli.checkpoint.onnx_graph import array_of, plain_graph
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.protobuf_scan import count_fields
from nfn_cli.errors import Refused, not_installed
from nfn_cli.printable import printable

_LARGEST_MESSAGE = 2**31 - 1  # bytes; protobuf holds no more
_MOST_FIELDS = 2_000_000
# which fields of onnx.proto hold messages, as far as a stranger could fill the memory with them
_MESSAGES = {
    "model": {7: "graph", 8: "pair", 14: "pair", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph", 3: "pair", 4: "pair"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "pair", 15: "sparse", 16: "pair"},
    "function": {7: "node", 9: "pair", 11: "attribute", 12: "value", 14: "pair"},
    "node": {5: "attribute", 9: "pair"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "pair", 16: "pair"},
    "value": {2: "type", 4: "pair"},
    "type": {1: "tensor-type", 4: "type", 8: "tensor-type", 9: "type"},
    "tensor-type": {2: "shape"},
    "shape": {1: "pair"},
    "pair": {},
}  # fmt: skip


def read_onnx(path: Path) -> Checkpoint:
    """Read a model with its external data.

    Raises:
        SurroundingsFailed: the extra `onnx` is not installed.
        Refused: damaged, too large to be honest, external data missing, sparse or quantized weights.
    """
    model = _parsed(path)
    tensors: dict[str, Array] = {}
    for name, holder in _holders(model):
        if name in tensors:
            raise Refused("two tensors have this name", where=printable(name), code="bad-graph")
        array = array_of(holder, name)
        array.flags.writeable = False
        tensors[name] = array
    for initializer in model.graph.sparse_initializer:
        raise Refused(
            "a sparse tensor, which is not analysed", where=printable(initializer.values.name), code="sparse-weights"
        )
    frozen = MappingProxyType(tensors)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Checkpoint(
        str(path),
        "onnx",
        frozen,
        metadata=MappingProxyType(metadata),
        hints=hints_in(metadata, "metadata"),
        payload=Origin((path,), frozen, content=plain_graph(model, frozenset(tensors))),
    )


def write_onnx(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the model with new weights; nodes, names and metadata stay. External data moves into the file."""
    from onnx import ModelProto, numpy_helper

    origin = origin_of(checkpoint)
    model = ModelProto()
    model.CopyFrom(origin.content.model)
    for name, holder in _holders(model):
        before, after = origin.tensors[name], checkpoint.tensors[name]
        if after is not before:
            try:
                after = cast_back(np.asarray(after), before.dtype)
            except Refused as error:
                raise error.located(printable(name)) from None
            holder.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(after), holder.name))
    if model.ByteSize() > _LARGEST_MESSAGE:
        raise Refused("the model is larger than one ONNX file can be (2 GB)", code="too-large")
    with atomic_output(out, force) as handle:
        handle.write(model.SerializeToString(deterministic=True))
    return ()


def _parsed(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise not_installed("onnx", "reading ONNX files", "onnx") from None
    found = count_fields(path, _MESSAGES, "model", _MOST_FIELDS)
    if found is None:
        raise Refused("the ONNX model is cut short or damaged", fix="export it again", code="truncated")
    if found > _MOST_FIELDS:
        raise Refused(f"the ONNX model has more than {_MOST_FIELDS:,} entries", code="too-large")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises kinds of its own
        reason = printable(str(error).split("\n")[0], 100)
        raise Refused(f"the ONNX model cannot be read ({reason})", fix="export it again", code="truncated") from None
    if any(not isinstance(text, str) for text in _texts(model)):
        raise Refused("the ONNX model is damaged: a name is no text", fix="export it again", code="truncated")
    load_external_data(model, path.parent)
    return model


def _texts(model: Any) -> Iterator[Any]:
    """Names, as the parser gives them: bytes where they are not UTF-8."""
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    yield from (entry.domain for entry in model.opset_import)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        yield from _node_texts(function.node)
    yield from _graph_texts(model.graph)


def _graph_texts(graph: Any) -> Iterator[Any]:
    yield from (tensor.name for tensor in graph.initializer)
    for tensor in graph.initializer:
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from _node_texts(graph.node)


def _node_texts(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for inner in (attribute.g, *attribute.graphs):
                yield from _graph_texts(inner)


def _holders(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, TensorProto) of every weight: initializers, and what nodes of kind Constant hold (a vector or more)."""
    from onnx import TensorProto

    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.STRING:
            yield initializer.name, initializer
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and _is_weight(attribute):
                    yield node.output[0], attribute.t


def _is_weight(attribute: Any) -> bool:
    from onnx import TensorProto, helper

    tensor = attribute.t
    if attribute.type != attribute.TENSOR or tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return False
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        return False
    return is_floating(np.dtype(dtype)) and any(size > 1 for size in tensor.dims)
