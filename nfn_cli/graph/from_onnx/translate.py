"""graph/from_onnx/translate.py: one walk over the nodes of an ONNX graph, every open axis given a length.

A node without a translation becomes an opaque op: it freezes what it reads. Nodes are visited once, without recursion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.model import Array
from nfn_cli.checkpoint.onnx_graph import Node, OnnxGraph
from nfn_cli.checkpoint.onnx_shapes import inferred_shapes
from nfn_cli.errors import Refused
from nfn_cli.graph.from_onnx import (  # noqa: F401 — they fill the table
    arithmetic,
    layers,
    movement,
    norms,
    pointwise,
    resize,
    windows,
)
from nfn_cli.graph.from_onnx.capture import (
    Capture,
    DoesNotFit,
    Entry,
    Parts,
    Shape,
    Untranslated,
    Value,
    View,
)
from nfn_cli.graph.from_onnx.folding import ARITHMETIC, folded
from nfn_cli.graph.from_onnx.registry import TRANSLATIONS, Call
from nfn_cli.graph.model import GraphInput, Op
from nfn_cli.printable import printable

_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "MatMulNBits",
)
_MOST_NUMBERS = 1 << 24  # entries of all folded constants together

# (input, axis) -> the length chosen where the file leaves it open
Sizes = Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Translation:
    """Ops in the vocabulary, before anything is simplified.

    Attributes:
        shapes: of every value, as far as known.
        read: tensors whose numbers went into the graph.
        used: tensors that some op names.
    """

    inputs: tuple[GraphInput, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape | None]
    read: frozenset[str]
    used: frozenset[str]


class Misfit(Exception):
    """Shapes disagree at a node; `where` names it."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def translate(graph: OnnxGraph, tensors: Mapping[str, Array], sizes: Sizes, frozen: frozenset[str]) -> Translation:
    """The graph in our vocabulary.

    Args:
        sizes: a length for every axis of an input that the file leaves open.
        frozen: tensors to take as plain numbers.

    Raises:
        Misfit: shapes disagree.
        Refused: quantized, too large, a value that nothing makes.
    """
    walk = _Walk(graph, Capture(tensors, graph.opset), frozen, sizes)
    for node in graph.nodes:
        if any(name in walk.needed for name in node.outputs):
            walk.visit(node)
    outputs = walk.outputs()
    used = frozenset(name for op in walk.c.ops for name in op.parameters.values())
    c = walk.c
    return Translation(
        tuple(walk.inputs), tuple(c.ops), tuple(dict.fromkeys(outputs)), c.shapes, frozenset(c.read), used
    )


class _Walk:
    def __init__(self, graph: OnnxGraph, c: Capture, frozen: frozenset[str], sizes: Sizes) -> None:
        self.graph, self.c = graph, c
        self.env: dict[str, Entry | Parts] = dict(graph.constants)
        self.numbers = 0
        for name, array in c.tensors.items():
            self.env[name] = c.view(name) if is_floating(array.dtype) and name not in frozen else np.asarray(array)
        self.needed = self._needed()
        self.inputs: list[GraphInput] = []
        self.lengths: dict[str, int] = {}  # chosen for open axes that have a name
        for name in graph.inputs:
            if name in self.needed:
                shape = _input_shape(graph, name, sizes)
                self.inputs.append(GraphInput(name, shape))
                self.lengths |= {n: m for n, m in zip(graph.dims[name], shape, strict=True) if isinstance(n, str)}
                self.env[name] = c.given(name, shape)
                c.floats_only &= name in graph.floats

    def _needed(self) -> set[str]:
        maker = {name: node for node in self.graph.nodes for name in node.outputs if name}
        stack, found = [name for name in self.graph.outputs if name], set[str]()
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                if name in maker:
                    stack.extend(maker[name].reads)
        return found

    def entry(self, name: str, reader: str) -> Entry | Parts:
        if name not in self.env:
            raise Refused("a value that nothing makes", where=f"{reader}: {printable(name)}", code="bad-graph")
        return self.env[name]

    def outputs(self) -> list[str]:
        """Values that are the answer; numbers that do not depend on the network are none of it."""
        entries = [entry for name in self.graph.outputs if name for entry in _leaves(self.entry(name, "the output"))]
        found = [self.c.value(entry).name for entry in entries if not isinstance(entry, np.ndarray)]
        if not found:
            raise Refused("no output that is computed", code="not-a-network")
        return found

    def visit(self, node: Node) -> None:
        where = printable(node.name or (node.outputs[0] if node.outputs else ""), 60)
        if "Quant" in node.kind or "QLinear" in node.kind or node.kind.rsplit(".", 1)[-1] in _QUANTIZED:
            raise Refused("a quantized network, which is not analysed", where=where, code="quantized")
        inputs = tuple(self.entry(name, where) if name else None for name in node.inputs)
        start = len(self.c.ops)
        try:
            made: Any = self._folded(node, inputs)
            if made is None:
                made = TRANSLATIONS.get(node.kind, _unknown)(Call(self.c, node, inputs))
        except Untranslated:
            self.c.undo(start)
            made = self._opaque(node, where)
        except DoesNotFit:
            raise Misfit(where) from None
        for name, entry in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
            self.env[name] = entry

    def _folded(self, node: Node, inputs: tuple[Entry | Parts | None, ...]) -> Entry | None:
        if node.kind in ("Shape", "Size"):
            shape = Call(self.c, node, inputs)[0].shape
            shown = np.broadcast_to(np.zeros((), np.int8), shape)
            return folded(node.kind, node.attributes, [shown], self.graph.opset)
        if not inputs and node.kind != "Constant":
            return None
        known: list[Array | None] = []
        for entry in inputs:
            if isinstance(entry, (Value, Parts)) or (isinstance(entry, View) and not self._lone(node, inputs)):
                return None
            known.append(self.c.numbers(entry))
        result = folded(node.kind, node.attributes, known, self.graph.opset)
        if result is not None:
            self.numbers += result.size
            if self.numbers > _MOST_NUMBERS:
                raise Refused("the graph computes too many constants", code="too-large")
        return result

    def _lone(self, node: Node, inputs: tuple[Entry | Parts | None, ...]) -> bool:
        """Arithmetic of single numbers, some of which the file keeps as tensors."""
        return node.kind in ARITHMETIC and all(
            not isinstance(entry, View) or int(np.prod(entry.shape)) == 1 for entry in inputs
        )

    def _opaque(self, node: Node, where: str) -> list[Value]:
        read = {name: self.env[name] for name in node.reads if name in self.env}
        values = [leaf for entry in read.values() for leaf in _leaves(entry) if isinstance(leaf, Value)]
        names = dict.fromkeys(entry.tensor for entry in read.values() if isinstance(entry, View))
        parameters = {f"input{i}": name for i, name in enumerate(names)}
        shapes = self._shapes(node, read)
        return [
            self.c.op(
                "opaque", values, shapes.get(name), parameters, shape=shapes.get(name), reason=f"{where}: {node.kind}"
            )
            if name in self.needed
            else Value("", None)
            for name in node.outputs
        ]

    def _untyped(self, entry: Value) -> bool:
        """Whether it may be of another type than floats: an input, or what no translation made."""
        maker = self.c.maker(entry)
        return maker is None or maker.kind == "opaque"

    def _shapes(self, node: Node, read: Mapping[str, Entry | Parts]) -> dict[str, Shape]:
        known = {
            n: e.known if isinstance(e, Value) else None if isinstance(e, Parts) else tuple(e.shape)
            for n, e in read.items()
        }
        shapes = {name: shape for name, shape in known.items() if shape is not None}
        numbers = {name: entry for name, entry in read.items() if isinstance(entry, np.ndarray)}
        untyped = frozenset(name for name, entry in read.items() if isinstance(entry, Value) and self._untyped(entry))
        found = inferred_shapes(self.graph, node, shapes, numbers, untyped)
        for name in node.outputs:
            dims = [self.lengths.get(n) if isinstance(n, str) else n for n in self.graph.dims.get(name, (None,))]
            if name not in found and all(n is not None for n in dims):
                found[name] = tuple(n for n in dims if n is not None)
        return {name: shape for name, shape in found.items() if all(n > 0 for n in shape)}


def _leaves(entry: Entry | Parts) -> Sequence[Entry]:
    return entry.values if isinstance(entry, Parts) else (entry,)


def _unknown(call: Call) -> Any:
    raise Untranslated


def _input_shape(graph: OnnxGraph, name: str, sizes: Sizes) -> Shape:
    dims = graph.dims.get(name)
    if dims is None:
        raise Refused(
            "the input has no shape", where=printable(name), fix="state it in the model", code="unknown-input-shape"
        )
    return tuple(n if isinstance(n, int) else sizes[name, axis] for axis, n in enumerate(dims))
