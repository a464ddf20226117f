"""canonical/norms/layers.py: the linear maps of a network, each as blocks of a matrix. Knows graphs and arrays; no symmetry.

A batch norm that alone reads a convolution or linear layer is part of it: weight · γ/√(var + ε). Any other one is a layer of
its own, a diagonal matrix of γ/√(var + ε).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.printable import printable
from nfn_cli.symmetry.element import FloatArray

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Layer:
    """One linear map.

    Attributes:
        op: what applies it.
        norm: the batch norm that is folded into it.
        weight: the tensor that stands for it.
        shape: of the weight.
    """

    op: Op
    norm: Op | None
    weight: str
    shape: tuple[int, ...]

    @property
    def kernel(self) -> int:
        """Positions of the kernel; 1 where the map is a matrix."""
        axes = (self.op.attributes.get("out_axis"), self.op.attributes.get("in_axis"))
        return prod(n for axis, n in enumerate(self.shape) if axis not in axes) if self.op.kind == "conv" else 1

    def blocks(self, tensors: Tensors) -> FloatArray:
        """(groups, rows, columns) float64: the map is block-diagonal; diagonal maps have one block of one column.

        Convolutions are reshaped: an output channel is a row over (inputs × kernel) as Miyato et al. 2018 take it; of a
        transposed one an input channel is a row over (outputs × kernel).
        """
        if self.op.kind not in ("linear", "conv"):
            norm = self.op.kind == "batch_norm"
            diagonal = batch_norm_gain(self.op, tensors) if norm else _vector(tensors, self.weight)
            return diagonal.reshape(-1, 1, 1)
        axes = (self.op.attributes["out_axis"], self.op.attributes["in_axis"])
        wide = np.moveaxis(np.asarray(tensors[self.weight]), axes, (0, 1)).astype(np.float64)
        groups = int(self.op.attributes.get("groups", 1))
        rows, columns = wide.shape[:2]
        gain = None if self.norm is None else batch_norm_gain(self.norm, tensors)
        if not self.op.attributes.get("transposed", False):
            if gain is not None:
                wide *= gain.reshape(-1, *(1 for _ in wide.shape[1:]))
            return wide.reshape(groups, rows // groups, -1)
        split = wide.reshape(rows, groups, columns // groups, -1).transpose(1, 2, 0, 3)
        if gain is not None:
            split = split * gain.reshape(groups, 1, rows, 1)
        return split.reshape(groups, columns // groups, -1)


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The linear maps in the order of the graph; one for each weight and norm, however often it is applied."""
    folded = folded_norms(graph)
    found: dict[tuple[str, str], Layer] = {}
    for op in graph.ops:
        if op.output in folded.values() or (op.kind in ("linear", "conv") and len(op.inputs) > 1):
            continue
        name = op.parameters.get({"batch_norm": "running_var"}.get(op.kind, "weight"))
        if name is None or op.kind not in ("linear", "conv", "batch_norm", "scale"):
            continue
        norm = next((other for other in graph.ops if other.output == folded.get(op.output)), None)
        key = (name, "" if norm is None else norm.parameters["running_var"])
        found.setdefault(key, Layer(op, norm, name, tuple(graph.parameter_shapes[name])))
    return tuple(found.values())


def folded_norms(graph: Graph) -> dict[str, str]:
    """Output of a convolution or linear layer -> output of the batch norm that alone reads it."""
    readers = Counter(name for op in graph.ops for name in op.inputs) + Counter(graph.outputs)
    makers = {op.output: op for op in graph.ops}
    pairs = {}
    for norm in graph.ops:
        layer = makers.get(norm.inputs[0]) if norm.kind == "batch_norm" else None
        if layer is None or layer.kind not in ("linear", "conv") or readers[layer.output] != 1 or len(layer.inputs) > 1:
            continue
        if prod(graph.parameter_shapes[norm.parameters["running_var"]]) == _outputs(graph, layer):
            pairs[layer.output] = norm.output
    return pairs


def _outputs(graph: Graph, layer: Op) -> int:
    length: int = graph.parameter_shapes[layer.parameters["weight"]][layer.attributes["out_axis"]]
    return length * int(layer.attributes.get("groups", 1)) if layer.attributes.get("transposed", False) else length


def batch_norm_gain(op: Op, tensors: Tensors) -> FloatArray:
    """(channels,) γ/√(var + ε).

    Raises:
        Refused: var + ε is not positive (code "bad-variance").
    """
    name = op.parameters["running_var"]
    variance = _vector(tensors, name) + float(op.attributes.get("eps", 1e-5))
    if not (variance > 0).all():
        raise Refused("a running variance is negative", where=printable(name), code="bad-variance")
    gamma = _vector(tensors, op.parameters["weight"]) if "weight" in op.parameters else 1.0
    return np.asarray(gamma / np.sqrt(variance))


def batch_norm_shift(op: Op, tensors: Tensors, bias: FloatArray | float = 0.0) -> FloatArray:
    """(channels,) β + γ(bias − mean)/√(var + ε): what the norm adds, with the bias of the layer that is folded into it."""
    beta = _vector(tensors, op.parameters["bias"]) if "bias" in op.parameters else 0.0
    mean = _vector(tensors, op.parameters["running_mean"])
    return np.asarray(beta + batch_norm_gain(op, tensors) * (bias - mean))


def _vector(tensors: Tensors, name: str) -> FloatArray:
    return np.asarray(tensors[name]).reshape(-1).astype(np.float64)


def frobenius(blocks: FloatArray) -> float:
    """(g, r, c) -> √Σ entry²."""
    return float(np.sqrt(np.einsum("grc,grc->", blocks, blocks)))


def spectral(blocks: FloatArray) -> float:
    """(g, r, c) -> the largest singular value of the block-diagonal matrix."""
    if 0 in blocks.shape:
        return 0.0
    if min(blocks.shape[1:]) == 1:
        return float(np.sqrt(np.einsum("grc,grc->g", blocks, blocks).max()))
    gram = blocks @ blocks.swapaxes(1, 2) if blocks.shape[1] <= blocks.shape[2] else blocks.swapaxes(1, 2) @ blocks
    return float(np.sqrt(max(_largest_eigenvalue(gram), 0.0)))


# From this size on, a few products of the matrix with a vector beat bringing it into tridiagonal form.
_LARGE = 512


def _largest_eigenvalue(gram: FloatArray) -> float:
    """(g, n, n) symmetric -> the largest eigenvalue of all."""
    if gram.shape[1] < _LARGE:
        return float(np.linalg.eigvalsh(gram)[:, -1].max())
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    start = np.random.default_rng(0).standard_normal(gram.shape[1])
    try:
        return max(float(eigsh(block, 1, which="LA", v0=start, return_eigenvectors=False)[0]) for block in gram)
    except ArpackNoConvergence:
        return float(np.linalg.eigvalsh(gram)[:, -1].max())


def measured(found: Sequence[Layer], tensors: Tensors) -> list[tuple[float, float]]:
    """(Frobenius norm, spectral norm) of each layer; one weight stands in memory at a time."""
    sizes = []
    for layer in found:
        blocks = layer.blocks(tensors)
        sizes.append((frobenius(blocks), spectral(blocks)))
    return sizes
