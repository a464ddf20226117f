"""checkpoint/onnx_shapes.py: shapes of what one ONNX node makes, asked of onnx itself, node by node. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.checkpoint.onnx_graph import Node, OnnxGraph

Shape = tuple[int, ...]

_LARGEST_ARGUMENT = 1024  # entries of a constant that may settle a shape


def inferred_shapes(
    graph: OnnxGraph,
    node: Node,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, Array],
    untyped: frozenset[str] = frozenset(),
) -> dict[str, Shape]:
    """Output name -> shape, as far as it is known from the shapes of all inputs; empty where onnx knows no such node.

    Args:
        shapes: of everything the node reads.
        constants: those of its inputs that are plain numbers.
        untyped: those that may be of whole numbers or truth values as well as floats.
    """
    if node.message is None or any(name not in shapes for name in node.reads):
        return {}
    from onnx import TensorProto

    for kind in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL) if untyped else (TensorProto.FLOAT,):
        found = _inferred(graph, node, shapes, constants, dict.fromkeys(untyped, kind))
        if found:
            return found
    return {}


def _inferred(
    graph: OnnxGraph,
    node: Node,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, Array],
    kinds: Mapping[str, int],
) -> dict[str, Shape]:
    from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

    message = node.message
    data = {n: a for n, a in constants.items() if a.size <= _LARGEST_ARGUMENT and a.dtype.kind in "iuf"}
    types = {
        name: helper.make_tensor_type_proto(
            helper.np_dtype_to_tensor_dtype(data[name].dtype) if name in data else kinds.get(name, TensorProto.FLOAT),
            shapes[name],
        )
        for name in node.reads
    }
    versions = {entry.domain: entry.version for entry in graph.model.opset_import}
    try:
        schema = defs.get_schema(message.op_type, versions.get(message.domain, graph.opset), message.domain)
        found = shape_inference.infer_node_outputs(
            schema,
            message,
            types,
            {name: numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in data.items()},
            opset_imports=list(graph.model.opset_import),
            ir_version=graph.model.ir_version,
        )
    except Exception:  # inference is a help, not a need: onnx raises many kinds on nodes it does not know or like
        return {}
    return {name: shape for name, proto in found.items() if (shape := _known(proto)) is not None}


def _known(proto: Any) -> Shape | None:
    if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in proto.tensor_type.shape.dim]
    return None if any(size < 0 for size in dims) else tuple(dims)
