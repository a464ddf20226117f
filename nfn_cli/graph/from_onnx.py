"""graph/from_onnx.py: an ONNX graph in our own vocabulary. Knows node kinds; no file, no protobuf.

Nodes behind the last weight (softmax, argmax) are left out: what they read is frozen, so any function of it stays. What is
not known before that becomes an opaque op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.onnx_file import Node, OnnxGraph
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.printable import printable

_POINTWISE: Mapping[str, str] = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Erf": "erf",
    "Abs": "abs",
    "Sin": "sin",
    "Cos": "cos",
    "Atan": "arctan",
    "Asinh": "asinh",
    "Selu": "selu",
    "HardSwish": "hardswish",
    "Mish": "mish",
}
_PASSING = ("Identity", "Dropout", "Cast")
_FLATTENING = ("Flatten", "Reshape", "Squeeze")
# inputs that carry data; the others are shapes, bounds and parameters
_DATA_INPUTS: Mapping[str, int] = {
    "Add": 2,
    "Sum": 99,
    "Concat": 99,
    "MatMul": 2,
}


def network_from_onnx(checkpoint: Checkpoint) -> tuple[Network, ...]:
    """The one network of an ONNX model.

    Raises:
        Refused: no weights, or nothing that is understood reads them.
    """
    build = _Build(origin_of(checkpoint).content, checkpoint)
    return (build.network(),)


class _Build:
    def __init__(self, source: OnnxGraph, checkpoint: Checkpoint) -> None:
        self.source, self.checkpoint = source, checkpoint
        self.maker = {output: node for node in source.nodes for output in node.outputs if output}
        self.ops: list[Op] = []
        self.values: dict[str, str] = {}
        self.inputs: dict[str, GraphInput] = {}
        self.functions: list[str] = []

    def network(self) -> Network:
        outputs = [self._value(name) for name in self._frontier()]
        if not any("weight" in op.parameters for op in self.ops):
            raise Refused("no weights that are understood", code="not-a-network")
        shapes = {t: tuple(self.checkpoint.tensors[t].shape) for op in self.ops for t in op.parameters.values()}
        family = "cnn" if any(op.kind == "conv" for op in self.ops) else "mlp"
        graph = Graph(tuple(self.inputs.values()), tuple(self.ops), tuple(dict.fromkeys(outputs)), shapes)
        functions = tuple(dict.fromkeys(self.functions))
        return Network("", family, graph, functions, "the ONNX graph" if functions else "")

    def _frontier(self) -> list[str]:
        """Values that the outputs are made of without further weights by nodes that are not understood."""
        found, stack, seen = [], list(reversed(self.source.outputs)), set()
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            node = self.maker.get(name)
            if node is None or self._stays(node) or any(entry in self.checkpoint.tensors for entry in node.inputs):
                if node is not None or name in self.source.inputs:
                    found.append(name)
            else:
                stack.extend(entry for entry in reversed(node.inputs) if entry)
        return found

    def _stays(self, node: Node) -> bool:
        return self._known(node) and node.kind not in _PASSING

    def _known(self, node: Node) -> bool:
        return node.kind in _RULES or node.kind in _POINTWISE or node.kind in _PASSING

    def _value(self, name: str) -> str:
        """Name of our value for one of theirs; makers are visited without recursion, however deep the graph."""
        stack, begun = [name], set()
        while stack:
            current = stack[-1]
            node = self.maker.get(current)
            if current in self.values:
                stack.pop()
                continue
            if node is None:
                self.values[current] = self._input(current)
                continue
            missing = [entry for entry in self._data(node) if entry not in self.values]
            if not missing:
                self.values[current] = self._emit(node)
                continue
            if current in begun:
                raise Refused("the graph has a cycle", where=printable(node.name), code="bad-graph")
            begun.add(current)
            stack.extend(missing)
        return self.values[name]

    def _input(self, name: str) -> str:
        shape = self.source.shapes.get(name)
        if name not in self.source.inputs or shape is None:
            raise Refused("a value that nothing makes", where=printable(name), code="bad-graph")
        self.inputs[name] = GraphInput(name, (None, *shape[1:]))
        return name

    def channels_last(self, node: Node) -> str | None:
        """What a flattening node reads, seen through the transposition that first moves channels behind the positions."""
        before = self.maker.get(node.inputs[0]) if node.kind in _FLATTENING and node.inputs else None
        if before is None or before.kind != "Transpose" or before.inputs[0] not in self.maker:
            return None
        order = tuple(before.attributes.get("perm", ()))
        return before.inputs[0] if len(order) > 2 and order == (0, *range(2, len(order)), 1) else None

    def _data(self, node: Node) -> list[str]:
        moved = self.channels_last(node)
        if moved is not None:
            return [moved]
        count = _DATA_INPUTS.get(node.kind, 1 if self._known(node) else 99)
        return [
            e for e in node.inputs[:count] if e and e not in self.checkpoint.tensors and e not in self.source.constants
        ]

    def _emit(self, node: Node) -> str:
        if node.kind in _PASSING:
            return self.values[node.inputs[0]]
        inputs = [self.values[entry] for entry in self._data(node)]
        made: Op | None = None
        if node.kind in _POINTWISE:
            made = self._pointwise(node, inputs)
        elif node.kind in _RULES:
            made = _RULES[node.kind](self, node, inputs)
        if made is None and self._before_all_weights(node, inputs):
            # whatever is done to an input is just another input
            name, shape = node.outputs[0], self.source.shapes[node.outputs[0]]
            self.inputs[name] = GraphInput(name, (None, *shape[1:]))
            return name
        if made is None:
            made = self._opaque(node, inputs)
        if made.output:
            return made.output
        made = replace(made, output=f"v{len(self.ops)}:{node.outputs[0]}")
        self.ops.append(made)
        return made.output

    def _before_all_weights(self, node: Node, inputs: list[str]) -> bool:
        parameters = [entry for entry in node.inputs if entry in self.checkpoint.tensors]
        numbers = [entry for entry in parameters if self.checkpoint.tensors[entry].dtype.kind == "f"]
        shape = self.source.shapes.get(node.outputs[0])
        return not numbers and shape is not None and len(shape) > 1 and all(entry in self.inputs for entry in inputs)

    def _opaque(self, node: Node, inputs: list[str]) -> Op:
        parameters = {f"input{i}": e for i, e in enumerate(node.inputs) if e in self.checkpoint.tensors}
        shape = self.source.shapes.get(node.outputs[0])
        plain = None if shape is None or None in shape[1:] else tuple(size or 0 for size in shape)
        where = printable(node.name or node.outputs[0], 60)
        return Op("opaque", tuple(inputs), "", parameters, {"shape": plain, "reason": f"{where}: {node.kind}"})

    def _pointwise(self, node: Node, inputs: list[str]) -> Op | None:
        function, attributes = _POINTWISE[node.kind], {}
        parameters = {}
        if function == "leaky_relu":
            attributes["slope"] = float(node.attributes.get("alpha", 0.01))
        if function == "prelu":
            if node.inputs[1] not in self.checkpoint.tensors:
                return None
            parameters["weight"] = node.inputs[1]
        if function in ("sin", "cos"):
            attributes["omega"] = 1.0
        self.functions.append(function)
        return Op("pointwise", tuple(inputs), "", parameters, {"function": function, **attributes})

    def constant(self, name: str) -> Any:
        found = self.source.constants.get(name)
        return found if found is not None else self.checkpoint.tensors.get(name)

    def tensor(self, node: Node, position: int) -> str | None:
        name = node.inputs[position] if len(node.inputs) > position else ""
        return name if name in self.checkpoint.tensors else None

    def rank(self, name: str) -> int | None:
        shape = self.source.shapes.get(name)
        return None if shape is None else len(shape)


def _gemm(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    weight, bias = build.tensor(node, 1), build.tensor(node, 2)
    a = node.attributes
    plain = a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0 and not a.get("transA", 0)
    if weight is None or not plain or len(inputs) != 1 or (len(node.inputs) > 2 and node.inputs[2] and bias is None):
        return None
    out = 0 if a.get("transB", 0) else 1
    if bias is not None and build.checkpoint.tensors[bias].size != build.checkpoint.tensors[weight].shape[out]:
        return None
    roles = {"weight": weight} | ({"bias": bias} if bias else {})
    return Op("linear", tuple(inputs), "", roles, {"out_axis": out, "in_axis": 1 - out})


def _matmul(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    weight = build.tensor(node, 1)
    if weight is None or len(inputs) != 1 or build.checkpoint.tensors[weight].ndim != 2:
        return None
    return Op("linear", tuple(inputs), "", {"weight": weight}, {"out_axis": 1, "in_axis": 0})


def _spatial(node: Node, rank: int) -> dict[str, Any] | None:
    """stride, padding, dilation; uneven padding has no word in the vocabulary."""
    a = node.attributes
    pads = tuple(a.get("pads", (0,) * (2 * rank)))
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or pads[:rank] != pads[rank:]:
        return None
    return {
        "stride": tuple(a.get("strides", (1,) * rank)),
        "padding": pads[:rank],
        "dilation": tuple(a.get("dilations", (1,) * rank)),
    }


def _conv(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    weight, bias = build.tensor(node, 1), build.tensor(node, 2)
    if weight is None or len(inputs) != 1 or (len(node.inputs) > 2 and node.inputs[2] and bias is None):
        return None
    kernel = build.checkpoint.tensors[weight].shape[2:]
    where = _spatial(node, len(kernel))
    if where is None:
        # the symmetries do not depend on how the border is filled: an even padding stands in
        where = {
            "padding": tuple(k // 2 for k in kernel),
            "stride": tuple(node.attributes.get("strides", (1,) * len(kernel))),
        }
    roles = {"weight": weight} | ({"bias": bias} if bias else {})
    groups = int(node.attributes.get("group", 1))
    return Op("conv", tuple(inputs), "", roles, {"out_axis": 0, "in_axis": 1, "groups": groups, **where})


def _batch_norm(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    roles = {}
    for position, role in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
        name = build.tensor(node, position)
        if name is None or node.attributes.get("training_mode", 0):
            return None
        roles[role] = name
    return Op("batch_norm", tuple(inputs), "", roles, {"eps": float(node.attributes.get("epsilon", 1e-5))})


def _pool(kind: str) -> Callable[[_Build, Node, list[str]], Op | None]:
    def rule(build: _Build, node: Node, inputs: list[str]) -> Op | None:
        kernel = tuple(node.attributes.get("kernel_shape", ()))
        where = _spatial(node, len(kernel)) or {"padding": 0, "stride": tuple(node.attributes.get("strides", kernel))}
        where.pop("dilation", None)
        return Op(kind, tuple(inputs), "", {}, {"kernel": kernel, **where})

    return rule


def _global_average(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    rank = build.rank(node.inputs[0])
    return (
        None if rank is None else Op("pool", tuple(inputs), "", {}, {"size": (1,) * (rank - 2), "statistic": "average"})
    )


def _flatten(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    """Flatten, and Reshape or Squeeze where the shapes show that it keeps the batch and joins all the rest."""
    before, after = build.source.shapes.get(node.inputs[0]), build.source.shapes.get(node.outputs[0])
    wanted = build.constant(node.inputs[1]) if node.kind == "Reshape" and len(node.inputs) > 1 else None
    if node.kind == "Flatten":
        joins = node.attributes.get("axis", 1) == 1
    elif before is None or None in before[1:] or (node.kind == "Squeeze" and len(before) < 3):
        joins = False
    else:
        size = int(np.prod([entry or 0 for entry in before[1:]]))
        target = after[1] if after is not None and len(after) == 2 else None
        if target is None and wanted is not None and np.size(wanted) == 2:
            first, last = (int(entry) for entry in np.ravel(wanted))
            target = size if last == -1 and first in (0, 1) else last
        joins = target == size
    if not joins:
        return None
    last_channel = build.channels_last(node) is not None
    spatial = None if before is None else before[1:-1] if last_channel else before[2:]
    attributes: dict[str, Any] = {"order": "channel_inner" if last_channel else "channel_outer"}
    if spatial is not None and None not in spatial:
        attributes["positions"] = int(np.prod([entry or 1 for entry in spatial]))
    return Op("flatten", tuple(inputs), "", {}, attributes)


def _add(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    if len(inputs) == len(node.inputs):
        return Op("add", tuple(inputs), "")
    bias = next((e for e in node.inputs if e in build.checkpoint.tensors), None)
    last = build.ops[-1] if build.ops else None
    if (
        bias is None
        or last is None
        or len(inputs) != 1
        or last.output != inputs[0]
        or last.kind not in ("linear", "conv")
    ):
        return None
    alone = sum(entry == last.output.split(":", 1)[1] for n in build.source.nodes for entry in n.inputs) == 1
    shape = build.checkpoint.tensors[bias].shape
    weight = build.checkpoint.tensors[last.parameters["weight"]]
    units = weight.shape[last.attributes["out_axis"]]
    long = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
    at = -1 if last.kind == "linear" else 1 - weight.ndim
    if "bias" in last.parameters or not alone or int(np.prod(shape)) != units or (long and long != [at]):
        return None
    build.ops[-1] = replace(last, parameters={**last.parameters, "bias": bias})
    return build.ops[-1]


def _concat(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    return (
        Op("concat", tuple(inputs), "", {}, {"axis": int(node.attributes["axis"])})
        if len(inputs) == len(node.inputs)
        else None
    )


def _clip(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    low = node.attributes.get("min", build.constant(node.inputs[1]) if len(node.inputs) > 1 else None)
    high = node.attributes.get("max", build.constant(node.inputs[2]) if len(node.inputs) > 2 else None)
    bounds = tuple(None if bound is None else float(np.ravel(bound)[0]) for bound in (low, high))
    known: dict[tuple[float | None, ...], str] = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hardtanh", (0.0, None): "relu"}
    function = known.get(bounds)
    if function is None:
        return None
    build.functions.append(function)
    return Op("pointwise", tuple(inputs), "", {}, {"function": function})


def _elu(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    if float(node.attributes.get("alpha", 1.0)) != 1.0:
        return None
    build.functions.append("elu")
    return Op("pointwise", tuple(inputs), "", {}, {"function": "elu"})


def _gelu(build: _Build, node: Node, inputs: list[str]) -> Op | None:
    function = "gelu_tanh" if node.attributes.get("approximate") == "tanh" else "gelu"
    build.functions.append(function)
    return Op("pointwise", tuple(inputs), "", {}, {"function": function})


_RULES: dict[str, Callable[[_Build, Node, list[str]], Op | None]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("average_pool"),
    "GlobalAveragePool": _global_average,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Squeeze": _flatten,
    "Add": _add,
    "Sum": _add,
    "Concat": _concat,
    "Clip": _clip,
    "Elu": _elu,
    "Gelu": _gelu,
}
