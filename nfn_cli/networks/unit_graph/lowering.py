"""unit_graph/lowering.py: batch norm written out as what it computes in evaluation. Knows graphs and stacked arrays; no group.

Batch norm after a layer becomes part of that layer's weight and bias; elsewhere it becomes a factor and an addend for
each channel. Either is exact in evaluation, and whatever scale or sign the statistics would have absorbed is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]
_FLAT = ("spatial_mean", "flatten")
_SHAPED = ("reshape", "expand", "opaque")


def without_batch_norm(graph: Graph, tensors: Tensors) -> tuple[Graph, dict[str, Array]]:
    """Graph and stacked tensors (rows, *shape) -> the same functions without any batch norm, tensors in float64.

    Tensors that no op reads are left out.

    Raises:
        Refused: a batch norm stands where the rank of its input is not known (code "rank-unknown").
    """
    state = _Lowering(graph, tensors)
    for op in graph.ops:
        state.take(op)
    shapes = {name: tuple(state.tensors[name].shape[1:]) for name in state.used()}
    return replace(graph, ops=tuple(state.ops), parameter_shapes=shapes), {n: state.tensors[n] for n in shapes}


class _Lowering:
    """Ops so far, and the tensors as they have become."""

    def __init__(self, graph: Graph, tensors: Tensors) -> None:
        self.tensors = {name: np.asarray(tensors[name], np.float64) for name in graph.parameter_shapes}
        self.ranks: dict[str, int | None] = {entry.name: len(entry.shape) for entry in graph.inputs}
        self.readers = Counter([name for op in graph.ops for name in op.inputs] + list(graph.outputs))
        self.uses = Counter(name for op in graph.ops for name in op.parameters.values())
        self.ops: list[Op] = []
        self.place: dict[str, int] = {}

    def used(self) -> list[str]:
        return list(dict.fromkeys(name for op in self.ops for name in op.parameters.values()))

    def take(self, op: Op) -> None:
        self.ranks[op.output] = self._rank(op)
        if op.kind != "batch_norm":
            self._append(op)
            return
        factor, addend = self._affine(op)
        maker = self.place.get(op.inputs[0])
        if maker is not None and self._absorbs(self.ops[maker], op):
            self._fold(maker, op, factor, addend)
        else:
            self._write_out(op, factor, addend)

    def _append(self, op: Op) -> None:
        self.place[op.output] = len(self.ops)
        self.ops.append(op)

    def _rank(self, op: Op) -> int | None:
        if op.kind in _FLAT:
            return 2
        if "shape" in op.attributes and op.kind in _SHAPED:
            return len(op.attributes["shape"])
        known = [self.ranks.get(name) for name in op.inputs]
        if op.kind == "parameter":
            return self.tensors[op.parameters["value"]].ndim - 1
        if op.kind == "constant":
            return np.ndim(op.attributes["value"])
        if not known or any(rank is None for rank in known):
            return None
        return max(rank for rank in known if rank is not None)

    def _affine(self, op: Op) -> tuple[Array, Array]:
        """(rows, channels) each: y = factor · x + addend."""
        roles = {role: self.tensors[name].reshape(len(self.tensors[name]), -1) for role, name in op.parameters.items()}
        root = np.sqrt(roles["running_var"] + float(op.attributes.get("eps", 1e-5)))
        factor = roles.get("weight", np.ones_like(root)) / root
        return factor, roles.get("bias", np.zeros_like(root)) - factor * roles["running_mean"]

    def _absorbs(self, layer: Op, norm: Op) -> bool:
        """Whether `layer` is read by this norm alone and its weight by this layer alone."""
        alone = self.readers[layer.output] == 1 and all(self.uses[name] == 1 for name in layer.parameters.values())
        flat = layer.kind == "linear" and self.ranks[layer.output] == 2
        own = layer.kind == "conv" and len(layer.inputs) == 1 and layer.attributes.get("trained", True)
        grouped_columns = layer.attributes.get("transposed", False) and int(layer.attributes.get("groups", 1)) > 1
        return bool(alone and (flat or own) and not grouped_columns)

    def _fold(self, maker: int, op: Op, factor: Array, addend: Array) -> None:
        layer = self.ops[maker]
        weight = layer.parameters["weight"]
        out = 1 + int(layer.attributes["out_axis"])
        shape = [len(factor)] + [factor.shape[1] if axis == out else 1 for axis in range(1, self.tensors[weight].ndim)]
        self.tensors[weight] = self.tensors[weight] * factor.reshape(shape)
        bias = layer.parameters.get("bias", f"{layer.output}|bias")
        self.tensors[bias] = addend + (self.tensors[bias] * factor if bias in self.tensors else 0.0)
        self.ops[maker] = replace(layer, output=op.output, parameters={"weight": weight, "bias": bias})
        self.place[op.output] = maker

    def _write_out(self, op: Op, factor: Array, addend: Array) -> None:
        rank = self.ranks[op.inputs[0]]
        if rank is None:
            raise Refused(
                "a batch norm stands where the shape of its input is not known",
                where=op.output,
                fix="read the network from a file that holds its graph",
                code="rank-unknown",
            )
        names = [f"{op.output}|{role}" for role in ("factor", "scaled", "addend", "added")]
        self.tensors[names[0]] = factor
        self.tensors[names[2]] = addend.reshape(*addend.shape, *[1] * (rank - 2))
        self._append(Op("scale", op.inputs, names[1], {"weight": names[0]}, {"axis": 1}))
        self._append(Op("parameter", (), names[3], {"value": names[2]}))
        self._append(Op("add", (names[1], names[3]), op.output))
