"""ONNX graphs are read as onnx itself computes them, and written as valid models that compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import nfn_cli
from nfn_cli.errors import NfnError
from nfn_cli.graph.reference import evaluate


class Maker:
    def __init__(self, shape: list[int | str]) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape

    def weight(self, *shape: int, positive: bool = False) -> str:
        values = self.random.standard_normal(shape).astype(np.float32)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.abs(values) + np.float32(0.5) if positive else values, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def save(self, path: Path, out: str) -> Path:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", "classes"])
        self.nodes.reverse()  # the order in the file says nothing
        graph = helper.make_graph(list(reversed(self.nodes)), "g", [x], [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {"author": "somebody"})
        onnx.save(model, str(path))
        return path


def mlp(path: Path) -> Path:
    m = Maker(["n", 5])
    x = m.node("Relu", m.node("Gemm", "x", m.weight(7, 5), m.weight(7), transB=1))
    x = m.node("Tanh", m.node("Add", m.node("MatMul", x, m.weight(7, 6)), m.weight(6)))
    return m.save(path, m.node("Softmax", m.node("Gemm", x, m.weight(6, 3)), axis=1))


def cnn(path: Path) -> Path:
    m = Maker(["n", 2, 6, 6])
    x = m.node("Conv", "x", m.weight(4, 2, 3, 3), m.weight(4), pads=[1, 1, 1, 1], strides=[1, 1])
    x = m.node("BatchNormalization", x, m.weight(4), m.weight(4), m.weight(4), m.weight(4, positive=True))
    x = m.node("MaxPool", m.node("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    x = m.node("Relu", m.node("Conv", x, m.weight(5, 4, 3, 3), pads=[1, 1, 1, 1]))
    x = m.node("Flatten", x)
    return m.save(path, m.node("Gemm", x, m.weight(3, 45), m.weight(3), transB=1))


def residual(path: Path) -> Path:
    m = Maker(["n", 5])
    x = m.node("Relu", m.node("Gemm", "x", m.weight(5, 6)))
    y = m.node("Relu", m.node("Gemm", x, m.weight(6, 8)))
    x = m.node("Add", x, m.node("Gemm", y, m.weight(8, 6)))
    return m.save(path, m.node("Gemm", x, m.weight(6, 2)))


EXPECTED = {
    mlp: "R>0^7 ⋊ S_7 × {±1}^6 ⋊ S_6",
    cnn: "(R>0^2 × {±1})^4 ⋊ S_4 × R>0^5 ⋊ S_5",
    residual: "R>0^6 ⋊ S_6 × R>0^8 ⋊ S_8",
}


def inputs(path: Path) -> np.ndarray:
    shape = [d.dim_value or 3 for d in onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("make", EXPECTED, ids=lambda f: f.__name__)
def test_the_group_comes_from_the_graph(tmp_path: Path, make) -> None:
    report = nfn_cli.symmetry_report(make(tmp_path / "m.onnx")).as_json()
    assert report["networks"][0]["group"] == EXPECTED[make]
    assert report["check"]["passed"]


def test_our_graph_computes_what_onnx_computes(tmp_path: Path) -> None:
    path = cnn(tmp_path / "m.onnx")
    model = nfn_cli.open_model(path)
    x = inputs(path)
    (ours,) = evaluate(model.networks[0].graph, model.checkpoint.tensors, {"x": x.astype(np.float64)})
    (theirs,) = ReferenceEvaluator(onnx.load(str(path))).run(None, {"x": x})
    assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", EXPECTED, ids=lambda f: f.__name__)
def test_the_output_is_a_valid_model_of_the_same_function(tmp_path: Path, make) -> None:
    path, out = make(tmp_path / "m.onnx"), tmp_path / "o.onnx"
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, out)
    before, after = onnx.load(str(path)), onnx.load(str(out))
    onnx.checker.check_model(after)
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    assert before.metadata_props == after.metadata_props
    assert before.graph.initializer != after.graph.initializer
    x = inputs(path)
    (old,) = ReferenceEvaluator(before).run(None, {"x": x})
    (new,) = ReferenceEvaluator(after).run(None, {"x": x})
    assert np.allclose(old, new, rtol=1e-4, atol=1e-4)


def test_what_is_not_understood_is_frozen_and_listed(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    x = m.node("Relu", m.node("Gemm", "x", m.weight(5, 6)))
    x = m.node("CumSum", x, m.weight(1))
    report = nfn_cli.symmetry_report(m.save(tmp_path / "m.onnx", m.node("Gemm", x, m.weight(6, 2)))).as_json()
    assert report["networks"][0]["unit_sets"] == []
    assert any("CumSum" in entry for entry in report["opaque"])


def test_what_happens_to_an_input_before_the_first_weight_is_another_input(tmp_path: Path) -> None:
    m = Maker(["n", 2, 3])
    m.weights.append(numpy_helper.from_array(np.array([-1, 6]), "shape"))
    x = m.node("Reshape", m.node("Neg", "x"), "shape")
    x = m.node("Relu", m.node("Gemm", x, m.weight(6, 4)))
    path = m.save(tmp_path / "m.onnx", m.node("Gemm", x, m.weight(4, 2)))
    report = nfn_cli.symmetry_report(path).as_json()
    assert report["networks"][0]["group"] == "R>0^4 ⋊ S_4"
    assert report["check"]["passed"]


def test_channels_behind_positions_are_flattened_in_their_order(tmp_path: Path) -> None:
    m = Maker(["n", 4, 4, 2])
    x = m.node("Transpose", "x", perm=[0, 3, 1, 2])
    x = m.node("Relu", m.node("Conv", x, m.weight(5, 2, 3, 3), pads=[1, 1, 1, 1]))
    m.weights.append(numpy_helper.from_array(np.array([-1, 80]), "shape"))
    x = m.node("Reshape", m.node("Transpose", x, perm=[0, 2, 3, 1]), "shape")
    path = m.save(tmp_path / "m.onnx", m.node("Identity", m.node("Softmax", m.node("MatMul", x, m.weight(80, 3)))))
    report = nfn_cli.symmetry_report(path).as_json()
    assert report["networks"][0]["group"] == "R>0^5 ⋊ S_5"
    assert report["check"]["passed"]
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, tmp_path / "o.onnx")
    data = np.random.default_rng(0).standard_normal((2, 4, 4, 2)).astype(np.float32)
    old, new = (ReferenceEvaluator(str(tmp_path / name)).run(None, {"x": data})[0] for name in ("m.onnx", "o.onnx"))
    assert np.allclose(old, new, atol=1e-5)


def test_missing_external_data_is_said(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(tmp_path / "e.onnx"), save_as_external_data=True, location="e.bin", size_threshold=0)
    assert nfn_cli.load(tmp_path / "e.onnx").tensors
    (tmp_path / "e.bin").unlink()
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(tmp_path / "e.onnx")
    assert caught.value.code == "missing-external-data"
