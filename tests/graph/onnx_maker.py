"""Small ONNX models by hand, and onnx' own reference evaluator to run them: what ours is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


class Maker:
    """Nodes and weights of one model, named t0, t1, … and w0, w1, … in the order in which they are made."""

    def __init__(self, shape: list[int | str], dtype: type = np.float32, opset: int = 17, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = {"x": shape}
        self.dtype, self.opset = dtype, opset
        self.functions: list[onnx.FunctionProto] = []

    def weight(self, *shape: int, positive: bool = False) -> str:
        values = self.random.standard_normal(shape).astype(self.dtype)
        return self.tensor(np.abs(values) + self.dtype(0.5) if positive else values)

    def tensor(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def numbers(self, *values: float) -> str:
        return self.tensor(np.array(values, self.dtype))

    def number(self, value: float) -> str:
        return self.tensor(np.array(value, self.dtype))

    def integers(self, *values: int) -> str:
        return self.tensor(np.array(values, np.int64))

    def node(self, kind: str, *inputs: str, outputs: int = 0, **attributes: object) -> Any:
        out = [f"t{len(self.nodes)}" + (f"_{i}" if outputs else "") for i in range(outputs or 1)]
        self.nodes.append(helper.make_node(kind, list(inputs), out, **attributes))
        return out if outputs else out[0]

    def conv(self, x: str, into: int, out: int, k: int = 3, **attributes: object) -> str:
        attributes.setdefault("pads", [k // 2] * 4)
        return self.node(
            "Conv", x, self.weight(out, into // int(attributes.get("group", 1)), k, k), self.weight(out), **attributes
        )  # type: ignore[call-overload]

    def linear(self, x: str, into: int, out: int) -> str:
        return self.node("Gemm", x, self.weight(out, into), self.weight(out), transB=1)

    def model(self, *out: str) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        x = [helper.make_tensor_value_info(name, kind, shape) for name, shape in self.inputs.items()]
        y = [helper.make_tensor_value_info(name, kind, ["n", "classes"]) for name in out]
        graph = helper.make_graph(self.nodes, "g", x, y, self.weights)
        opsets = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid("own", 1)] * bool(self.functions)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=self.functions)
        helper.set_model_props(model, {"author": "somebody"})
        return model

    def save(self, path: Path, *out: str) -> Path:
        onnx.save(self.model(*out), str(path))
        return path


def feeds(path: Path, seed: int = 1) -> dict[str, np.ndarray]:
    """Standard normal inputs; open axes get 2 (batch) or 32 entries."""
    random = np.random.default_rng(seed)
    found = {}
    for value in onnx.load(str(path)).graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or (2 if axis == 0 else 32) for axis, d in enumerate(kind.shape.dim)]
        found[value.name] = random.standard_normal(shape).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return found


def run(path: Path, inputs: dict[str, np.ndarray] | None = None) -> list[np.ndarray]:
    """What onnx itself computes."""
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(str(path)).run(None, inputs or feeds(path)))


def residual(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Largest change over the largest entry."""
    return max(
        float(np.abs(a.astype(float) - b).max() / (np.abs(b).max() or 1.0)) for a, b in zip(after, before, strict=True)
    )


def float_input(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
