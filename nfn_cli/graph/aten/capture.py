"""graph/aten/capture.py: a graph in the making: what stands for a tensor, and the ops written so far. Knows no ATen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Op

Shape = tuple[int, ...]

_LARGEST_CONSTANT = 4096  # entries of a tensor that stands in the graph itself
_LARGEST_VALUE = 1 << 28  # entries: 2 GiB in float64


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name among the values and its shape."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Parameter:
    """A tensor of the checkpoint, perhaps seen with axes of length 1 put in or left out."""

    tensor: str
    shape: Shape
    trained: bool
    floating: bool = True


@dataclass
class Capture:
    """Mutable state of one translation.

    Attributes:
        shapes: own shape of every tensor of the checkpoint that the program knows.
        inputs: values fed from outside, in order.
        ops: what has been written.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    inputs: list[GraphInput] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    _materialized: dict[tuple[str, Shape], Value] = field(default_factory=dict)
    _makers: dict[str, Op] = field(default_factory=dict)
    _values: int = 0

    def input(self, name: str, shape: Shape) -> Value:
        self.inputs.append(GraphInput(name, shape))
        return Value(name, shape)

    def parameter(self, tensor: str, shape: Shape, trained: bool, floating: bool = True) -> Parameter:
        """A tensor of whole numbers may be read, but is no weight of a layer."""
        self.shapes[tensor] = shape
        return Parameter(tensor, shape, trained and floating, floating)

    def op(
        self,
        kind: str,
        inputs: Sequence[Any],
        shape: Sequence[int],
        parameters: dict[str, str] | None = None,
        /,
        **attributes: Any,
    ) -> Value:
        if math.prod(shape) > _LARGEST_VALUE:
            raise Refused(f"a value of shape {tuple(shape)} is too large", code="too-large")
        self._values += 1
        name = f"v{self._values}"
        names = tuple(self.value(entry).name for entry in inputs)
        self.ops.append(Op(kind, names, name, parameters or {}, attributes))
        self._makers[name] = self.ops[-1]
        return Value(name, tuple(int(n) for n in shape))

    def value(self, entry: Any) -> Value:
        """The entry as a value; a tensor of the checkpoint is brought into the graph once for each view of it."""
        if isinstance(entry, Value):
            return entry
        if not isinstance(entry, Parameter):
            raise TypeError(f"an operation takes {type(entry).__name__} where a tensor is needed")
        key = (entry.tensor, entry.shape)
        if key not in self._materialized:
            own = self.shapes[entry.tensor]
            made = self.op(
                "parameter", (), own, {"value": entry.tensor}, **({} if entry.trained else {"trained": False})
            )
            self._materialized[key] = made
            if entry.shape != own:
                self._materialized[key] = self.op("reshape", (made,), entry.shape, shape=list(entry.shape))
        return self._materialized[key]

    def constant(self, shape: Shape, values: Any) -> Value:
        """Numbers (nested lists) of the program itself; rows that are all the same are stored once. None: not known."""
        if values is not None and len(shape) > 1 and shape[0] > 1 and all(row == values[0] for row in values):
            return self.op("expand", (self.constant((1, *shape[1:]), values[:1]),), shape, shape=list(shape))
        if values is None or math.prod(shape) > _LARGEST_CONSTANT:
            return self.op("aten.constant", (), shape, shape=list(shape))
        return self.op("constant", (), shape, value=values)

    def repeated(self, entry: Any) -> Any:
        """The one row (nested lists) of a constant whose rows are all the same; None for other values."""
        spread = self._made_by(entry, "expand")
        row = self._made_by(spread.inputs[0], "constant") if spread else None
        return row.attributes["value"][0] if row and len(row.attributes["value"]) == 1 else None

    def transposed(self, entry: Any) -> Parameter | None:
        """The plain matrix of the checkpoint that an entry is the transpose of, else None."""
        turned = self._made_by(entry, "permute")
        source = (
            self._made_by(turned.inputs[0], "parameter") if turned and turned.attributes["order"] == [1, 0] else None
        )
        return (
            Parameter(source.parameters["value"], entry.shape[::-1], source.attributes.get("trained", True))
            if source
            else None
        )

    def _made_by(self, value: Any, kind: str) -> Op | None:
        name = value.name if isinstance(value, Value) else value
        op = self._makers.get(name) if isinstance(name, str) else None
        return op if op is not None and op.kind == kind else None

    def is_plain(self, entry: Any) -> bool:
        """Whether the entry is a tensor of the checkpoint in its own shape, which an op can name as its parameter."""
        return isinstance(entry, Parameter) and entry.floating and entry.shape == self.shapes[entry.tensor]

    def forget(self, start: int) -> None:
        """Take back the ops from number `start` on."""
        del self.ops[start:]
        left = {op.output for op in self.ops}
        self._materialized = {key: value for key, value in self._materialized.items() if value.name in left}

    def pointwise(self, x: Any, function: str, **attributes: Any) -> Value:
        x = self.value(x)
        factor = self._made_by(x, "scalar") if function in ("sin", "cos") else None
        if factor is not None and factor.attributes["multiply"] and not factor.attributes["add"]:
            # sin(ω z): the factor is the frequency, so that phases of z have a period to shift by
            return self.op(
                "pointwise",
                (Value(factor.inputs[0], x.shape),),
                x.shape,
                function=function,
                omega=factor.attributes["multiply"],
                **attributes,
            )
        return self.op("pointwise", (x,), x.shape, function=function, **attributes)

    def scalar(self, x: Any, multiply: float = 1.0, add: float = 0.0) -> Value:
        x = self.value(x)
        return self.op("scalar", (x,), x.shape, multiply=float(multiply), add=float(add))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        x_shape, shape = tuple(x.shape), tuple(int(n) for n in shape)
        if isinstance(x, Parameter) and [n for n in x_shape if n != 1] == [n for n in shape if n != 1]:
            return replace(x, shape=shape)
        if x_shape == shape:
            return x
        return self.op("reshape", (x,), shape, shape=list(shape))

    def permute(self, x: Any, order: Sequence[int]) -> Value:
        shape = x.shape
        order = [axis % len(shape) for axis in order]
        return self.op("permute", (x,), [shape[axis] for axis in order], order=order)

    def slice(self, x: Any, axis: int, start: int, stop: int, step: int = 1) -> Value:
        shape = list(x.shape)
        axis %= len(shape)
        n = shape[axis]
        start = min(max(start + n if start < 0 else start, 0), n)
        stop = min(max(stop + n if stop < 0 else stop, 0), n)
        shape[axis] = max(0, -(-(stop - start) // step))
        return self.op("slice", (x,), shape, axis=axis, start=start, stop=stop, step=step)

    def graph(self, outputs: Sequence[Any]) -> Graph:
        """What leads to the outputs (entries that are no tensors are passed over), and the tensors it names."""
        tensors = [entry for entry in outputs if isinstance(entry, (Value, Parameter))]
        names = tuple(dict.fromkeys(self.value(entry).name for entry in tensors))
        needed, kept = set(names), []
        for op in reversed(self.ops):
            if op.output in needed:
                needed.update(op.inputs)
                kept.append(op)
        kept.reverse()
        used = {name for op in kept for name in op.parameters.values()}
        inputs = tuple(entry for entry in self.inputs if entry.name in needed)
        return Graph(inputs, tuple(kept), names, {n: s for n, s in self.shapes.items() if n in used})
