"""graph/from_keras/builder.py: nodes of ONNX, tensors and constants as a Keras model is followed. Knows no layer.

Keras keeps channels last, ONNX channels first: a value of Keras' shape (N, *S, C) is (N, C, *S) here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.onnx_graph import Dims, Node, OnnxGraph
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.graph.from_keras.calls import Layer, NoGraph

OPSET = 20


@dataclass(frozen=True)
class Value:
    """A value's name, and its number of axes with the batch (None: not known)."""

    name: str
    rank: int | None

    @property
    def axes(self) -> int:
        if self.rank is None:
            raise Unsaid
        return self.rank


class Unsaid(Exception):
    """This use of a layer is in no words of ONNX that are known here: it becomes opaque."""


class Builder:
    """Nodes and constants so far."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.tensors = checkpoint.tensors
        self._by_class: bool = origin_of(checkpoint).content.by_class
        self._by_place: dict[str, list[str]] = {}
        for name in checkpoint.tensors:
            self._by_place.setdefault(_place(name), []).append(name)
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.dims: dict[str, Dims] = {}

    def node(
        self, kind: str, inputs: Sequence[str | Value], rank: int | None, name: str = "", /, **attributes: Any
    ) -> Value:
        """Append a node; `name` is what a user knows it by, where it may be spoken of."""
        names = tuple(entry if isinstance(entry, str) else entry.name for entry in inputs)
        output = f"{kind}:{len(self.nodes)}"
        self.nodes.append(Node(kind, name or output, names, (output,), attributes))
        return Value(output, rank)

    def constant(self, numbers: Any, dtype: Any = np.float32) -> str:
        name = f"constant:{len(self.constants)}"
        self.constants[name] = np.asarray(numbers, dtype)
        return name

    def _places(self, layer: Layer) -> list[str]:
        """Where tensors of the layer stand: a nested one behind the name of the outermost model."""
        path = layer.saved if self._by_class else layer.path
        # a nested model with one layer of weights leaves that layer's name out
        return ["/".join(path)] if self._by_class or len(path) == 1 else [f"{path[0]}/{path[-1]}", path[0]]

    def tensors_of(self, layer: Layer, read: Collection[str] = ()) -> list[str]:
        """All tensors of the layer: those under its name, and those that stand beside one that it read."""
        places = dict.fromkeys((self._places(layer)[0], *(_place(name) for name in read if name in self.tensors)))
        return [name for place in places for name in self._by_place.get(place, ())]

    def tensor(self, layer: Layer, *roles: str) -> str | None:
        """The first of these of the layer's tensors that is there."""
        names = (f"{place}/{role}" for place in self._places(layer) for role in roles)
        return next((name for name in names if name in self.tensors), None)

    def needed(self, layer: Layer, *roles: str) -> str:
        """As `tensor`; raises NoGraph where none is there: configuration and weights do not belong together."""
        name = self.tensor(layer, *roles)
        if name is None:
            raise NoGraph
        return name

    def optional(self, layer: Layer, setting: str, role: str, default: bool = True) -> str:
        """The tensor where the layer's setting says that it has one; "" else."""
        return self.needed(layer, role) if layer.settings.get(setting, default) else ""

    def shape(self, tensor: str) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def permuted(self, tensor: str, order: Sequence[int]) -> Value:
        if len(self.shape(tensor)) != len(order):
            raise NoGraph
        return self.node("Transpose", [tensor], len(order), perm=list(order))

    def channels_last(self, x: Value) -> Value:
        if x.axes <= 2:
            return x
        return self.node("Transpose", [x], x.rank, perm=[0, *range(2, x.axes), 1])

    def channels_first(self, x: Value) -> Value:
        if x.axes <= 2:
            return x
        return self.node("Transpose", [x], x.rank, perm=[0, x.axes - 1, *range(1, x.axes - 1)])

    def graph(self, inputs: Mapping[str, Dims], outputs: Sequence[Value]) -> OnnxGraph:
        names = tuple(value.name for value in outputs)
        floats = frozenset(inputs)
        return OnnxGraph(
            tuple(self.nodes),
            tuple(inputs),
            names,
            {**self.dims, **inputs},
            floats,
            self.constants,
            OPSET,
            None,
        )


def _place(tensor: str) -> str:
    """The name of a tensor without that of the variable."""
    return tensor.rpartition("/")[0]
