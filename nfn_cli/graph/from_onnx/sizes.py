"""graph/from_onnx/sizes.py: lengths for the axes of inputs that an ONNX file leaves open (batch, height, width).

A symmetry holds whatever the length; the graph is read at the first that fits it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nfn_cli.checkpoint.model import Array
from nfn_cli.checkpoint.onnx_graph import OnnxGraph

_BATCHES = (2, 1)
_LENGTHS = (32, 64, 96, 224, 28, 299)


def size_choices(graph: OnnxGraph, tensors: Mapping[str, Array]) -> Iterator[dict[tuple[str, int], int]]:
    """(input, axis) -> length; one choice after another, the likeliest first."""
    open_axes = {
        (name, axis): n
        for name in graph.inputs
        for axis, n in enumerate(graph.dims.get(name, ()))
        if not isinstance(n, int)
    }
    batch_names = {n for (_, axis), n in open_axes.items() if axis == 0 and n is not None}
    batch = [key for key, n in open_axes.items() if key[1] == 0 or n in batch_names]
    told = _told_by_readers(graph, tensors)
    free = [key for key in open_axes if key not in batch and key not in told]
    for count in _BATCHES if batch else (1,):
        for length in _LENGTHS if free else (1,):
            yield {key: count if key in batch else told.get(key, length) for key in open_axes}


def _told_by_readers(graph: OnnxGraph, tensors: Mapping[str, Array]) -> dict[tuple[str, int], int]:
    """Channels and features as the layers that read an input expect them."""
    told: dict[tuple[str, int], int] = {}
    for node in graph.nodes:
        weight = tensors.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or node.inputs[0] not in graph.inputs or weight.ndim < 2:
            continue
        if node.kind == "Conv":
            told[node.inputs[0], 1] = weight.shape[1] * int(node.attributes.get("group", 1))
        elif node.kind in ("Gemm", "MatMul") and weight.ndim == 2:
            axis = len(graph.dims.get(node.inputs[0], (0, 0))) - 1
            told[node.inputs[0], axis] = weight.shape[1 if node.attributes.get("transB", 0) else 0]
    return told
