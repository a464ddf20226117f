"""graph/from_onnx/capture.py: what a translation works on: values, views of tensors, numbers, and the ops made so far.

Knows the vocabulary and no ONNX node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Op

Shape = tuple[int, ...]

LARGEST_CONSTANT = 1 << 16  # entries of a constant that stands in the graph
_LARGEST_VALUE = 1 << 26  # entries of one value
_LARGEST_AXIS = 1 << 22
_MOST_ENTRIES = 1 << 32  # of all values together


class Untranslated(Exception):
    """This use of an operation has no words in the vocabulary: it becomes opaque."""


class DoesNotFit(Exception):
    """Shapes disagree: the sizes chosen for open axes, or the model itself, are wrong."""


@dataclass(frozen=True)
class Value:
    """A computed tensor: its name among our values and its shape (None: not known, only opaque ops can read it)."""

    name: str
    known: Shape | None

    @property
    def shape(self) -> Shape:
        if self.known is None:
            raise Untranslated
        return self.known


@dataclass(frozen=True)
class View:
    """A tensor of the checkpoint with axes permuted, and axes of length 1 put in or left out.

    Attributes:
        tensor: its name in the checkpoint.
        shape: as seen.
        axes: for each axis as seen the axis of the tensor; None for one that was put in.
    """

    tensor: str
    shape: Shape
    axes: tuple[int | None, ...]


@dataclass(frozen=True)
class Parts:
    """A sequence of values, which is read one by one."""

    values: tuple[Value, ...]


# numpy arrays are numbers that stand in the graph: shapes, factors, bounds
Entry = Value | View | Array


@dataclass
class Capture:
    """Mutable state of one translation.

    Attributes:
        tensors: the checkpoint's.
        opset: version of ONNX' own operations.
        shapes: of the values made so far.
        floats_only: whether no value so far may be of whole numbers.
        read: tensors whose numbers went into the graph; they must stay as they are.
    """

    tensors: Mapping[str, Array]
    opset: int
    ops: list[Op] = field(default_factory=list)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    floats_only: bool = True
    read: set[str] = field(default_factory=set)
    entries: int = 0
    _made: dict[tuple[str, tuple[int | None, ...]], Value] = field(default_factory=dict)
    _values: int = 0
    _by_output: dict[str, Op] = field(default_factory=dict)

    def op(
        self,
        kind: str,
        inputs: Sequence[Entry],
        shape: Sequence[int] | None,
        parameters: Mapping[str, str] | None = None,
        /,
        **attributes: Any,
    ) -> Value:
        """Append an op.

        Raises:
            DoesNotFit: the shape is empty or negative somewhere.
            Untranslated: a factor or bound is not finite.
            Refused: the value is larger than any honest network's (code "too-large").
        """
        known = None if shape is None else tuple(int(n) for n in shape)
        if known is not None:
            self._weigh(known)
        names = tuple(self.value(entry).name for entry in inputs)
        self._values += 1
        if any(isinstance(n, float) and not isfinite(n) for n in attributes.values()):
            raise Untranslated
        if known is not None:  # whatever a rule cannot follow still has a shape, for what comes after it
            attributes = {"shape": list(known), **attributes}
        made = Op(kind, names, f"v{self._values}", dict(parameters or {}), attributes)
        self.ops.append(made)
        self._by_output[made.output] = made
        self.shapes[made.output] = known
        self.floats_only &= kind != "opaque"
        return Value(made.output, known)

    def given(self, name: str, shape: Shape) -> Value:
        """A value fed from outside."""
        self._weigh(shape)
        self.shapes[name] = shape
        return Value(name, shape)

    def _weigh(self, shape: Shape) -> None:
        if any(n < 1 for n in shape):
            raise DoesNotFit
        size = prod(shape)
        self.entries += size
        if size > _LARGEST_VALUE or max(shape, default=1) > _LARGEST_AXIS or self.entries > _MOST_ENTRIES:
            raise Refused("a value of the graph is too large", code="too-large")

    def maker(self, entry: Entry) -> Op | None:
        return self._by_output.get(entry.name) if isinstance(entry, Value) else None

    def undo(self, count: int) -> None:
        """Forget the ops behind the first `count`."""
        gone = {op.output for op in self.ops[count:]}
        del self.ops[count:]
        self._made = {key: value for key, value in self._made.items() if value.name not in gone}
        for name in gone:
            del self._by_output[name]

    def view(self, tensor: str) -> View:
        shape = tuple(int(n) for n in self.tensors[tensor].shape)
        return View(tensor, shape, tuple(range(len(shape))))

    def value(self, entry: Entry) -> Value:
        """The entry as a value; a tensor is brought into the graph once for each view of it."""
        if isinstance(entry, Value):
            return entry
        if isinstance(entry, View):
            return self._parameter(entry)
        if entry.size > LARGEST_CONSTANT or entry.dtype.kind not in "fiub" or not np.isfinite(entry).all():
            raise Untranslated
        return self.op("constant", (), entry.shape, value=entry.astype(np.float64).tolist())

    def _parameter(self, view: View) -> Value:
        key = (view.tensor, view.axes)
        if key in self._made:
            return self._made[key]
        own = self.view(view.tensor)
        if self.tensors[view.tensor].dtype.kind in "OSU":
            raise Untranslated
        made = self.op("parameter", (), own.shape, {"value": view.tensor}) if view == own else self._parameter(own)
        if view != own:
            order = [axis for axis in view.axes if axis is not None]
            order += [axis for axis in range(len(own.shape)) if axis not in order]
            made = self.reshape(self.permute(made, order), view.shape)
        self._made[key] = made
        return made

    def plain(self, entry: Entry | None) -> str | None:
        """The tensor's name where the entry is a whole tensor as the checkpoint has it."""
        return entry.tensor if isinstance(entry, View) and entry == self.view(entry.tensor) else None

    def number(self, entry: Entry) -> float | None:
        """The entry as one finite number, where it is one; a tensor read so is frozen."""
        array = self.numbers(entry) if not isinstance(entry, Value) and prod(entry.shape) == 1 else None
        if array is None or array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            return None
        return float(array.reshape(-1)[0])

    def numbers(self, entry: Entry | None) -> Array | None:
        """The entry as an array of numbers, where it is known without running the network."""
        if isinstance(entry, np.ndarray):
            return entry
        if not isinstance(entry, View):
            return None
        self.read.add(entry.tensor)
        array = self.tensors[entry.tensor]
        order = [axis for axis in entry.axes if axis is not None]
        order += [axis for axis in range(array.ndim) if axis not in order]
        return np.asarray(array).transpose(order).reshape(entry.shape)

    def pointwise(self, x: Entry, function: str, **attributes: Any) -> Value:
        x = self.value(x)
        return self.op("pointwise", (x,), x.shape, function=function, **attributes)

    def scalar(self, x: Entry, multiply: float = 1.0, add: float = 0.0) -> Value:
        x = self.value(x)
        if multiply == 1.0 and add == 0.0:
            return x
        return self.op("scalar", (x,), x.shape, multiply=float(multiply), add=float(add))

    def reshape(self, x: Entry, shape: Sequence[int]) -> Any:
        """Any entry in another shape; only axes of length 1 come and go in a view."""
        shape = tuple(int(n) for n in shape)
        if prod(shape) != prod(x.shape) or any(n < 0 for n in shape):
            raise DoesNotFit
        if isinstance(x, np.ndarray):
            return x.reshape(shape)
        if tuple(x.shape) == shape:
            return x
        if isinstance(x, View) and [n for n in x.shape if n != 1] == [n for n in shape if n != 1]:
            long = iter([axis for axis, n in zip(x.axes, x.shape, strict=True) if n != 1])
            return replace(x, shape=shape, axes=tuple(None if n == 1 else next(long) for n in shape))
        return self.op("reshape", (x,), shape, shape=list(shape))

    def permute(self, x: Entry, order: Sequence[int]) -> Any:
        order = [axis % max(1, len(x.shape)) for axis in order]
        if sorted(order) != list(range(len(x.shape))):
            raise DoesNotFit
        if order == sorted(order):
            return x
        shape = tuple(x.shape[axis] for axis in order)
        if isinstance(x, np.ndarray):
            return x.transpose(order)
        if isinstance(x, View):
            return View(x.tensor, shape, tuple(x.axes[axis] for axis in order))
        return self.op("permute", (x,), shape, order=order)

    def slice(self, x: Entry, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """Entries start, start + step, … before stop of one axis, all within it."""
        shape = list(x.shape)
        if (start, stop, step) == (0, shape[axis], 1):
            return self.value(x)
        shape[axis] = len(range(start, stop, step))
        return self.op("slice", (x,), shape, axis=axis, start=start, stop=stop, step=step)

    def pad(self, x: Entry, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Value:
        shape = [n + b + a for n, b, a in zip(x.shape, before, after, strict=True)]
        if not any(before) and not any(after):
            return self.value(x)
        return self.op("pad", (x,), shape, before=list(before), after=list(after), value=value)

    def add(self, x: Entry, y: Entry) -> Value:
        return self.op("add", (x, y), broadcast(x.shape, y.shape))

    def mul(self, x: Entry, y: Entry) -> Value:
        """A product; a vector of the checkpoint along one axis of the other factor becomes a `scale`."""
        if not isinstance(x, Value):
            x, y = y, x
        shape = broadcast(x.shape, y.shape)
        axis = vector_axis(y, len(x.shape))
        if axis is not None and isinstance(y, View) and shape == tuple(x.shape):
            return self.op("scale", (x,), shape, {"weight": y.tensor}, axis=axis)
        if not shape:
            raise Untranslated  # the rules know no product of values without axes
        return self.op("mul", [self.reshape(entry, entry.shape or (1,)) for entry in (x, y)], shape)

    def affine(self, x: Entry, weight: Entry | None, bias: Entry | None, shape: Sequence[int]) -> Value:
        """x · weight + bias, both seen in `shape`."""
        if weight is not None:
            x = self.mul(x, self.reshape(weight, shape))
        return self.value(x) if bias is None else self.add(x, self.reshape(bias, shape))


def vector_axis(entry: Entry, rank: int) -> int | None:
    """The axis of a value of `rank` axes that a tensor is spread along; None unless it is a vector."""
    if not isinstance(entry, View) or len(entry.shape) > rank:
        return None
    long = [axis - len(entry.shape) for axis, n in enumerate(entry.shape) if n != 1]
    return long[0] % rank if len(long) == 1 else None


def broadcast(left: Sequence[int], right: Sequence[int]) -> Shape:
    rank = max(len(left), len(right))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (left, right))
    if any(n != m and 1 not in (n, m) for n, m in zip(a, b, strict=True)):
        raise DoesNotFit
    return tuple(n if m == 1 else m for n, m in zip(a, b, strict=True))
