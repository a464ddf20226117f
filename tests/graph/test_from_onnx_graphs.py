"""Where ONNX files differ in structure: who delivers a weight, what is known of shapes, what is put into functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nfn_cli
from nfn_cli.errors import NfnError
from tests.graph.onnx_maker import Maker, feeds, float_input, residual, run


def group(path: Path) -> str:
    report = nfn_cli.symmetry_report(path)
    assert report.passed
    return report.as_json()["networks"][0]["group"]


def stays_the_same(path: Path) -> None:
    """A random element changes the weights in the file, and not what onnx computes."""
    moved = path.with_name("moved.onnx")
    nfn_cli.save(nfn_cli.act(nfn_cli.random_element(path, seed=2), path), moved, force=True)
    onnx.checker.check_model(str(moved))
    assert path.read_bytes() != moved.read_bytes()
    assert residual(run(path), run(moved)) < 1e-5


def chain(m: Maker) -> str:
    return m.linear(m.node("Relu", m.linear("x", 5, 6)), 6, 2)


def edited(path: Path, m: Maker, out: str, change) -> Path:
    model = m.model(out)
    change(model)
    onnx.save(model, str(path))
    return path


def test_weights_delivered_by_constant_nodes(tmp_path: Path) -> None:
    def as_nodes(model: onnx.ModelProto) -> None:
        for number, tensor in enumerate(model.graph.initializer):
            model.graph.node.insert(number, helper.make_node("Constant", [], [tensor.name], value=tensor))
        del model.graph.initializer[:]

    m = Maker(["n", 5])
    path = edited(tmp_path / "m.onnx", m, chain(m), as_nodes)
    assert group(path) == "R>0^6 ⋊ S_6"
    stays_the_same(path)


def test_weights_that_may_also_be_fed(tmp_path: Path) -> None:
    def as_inputs(model: onnx.ModelProto) -> None:
        model.graph.input.extend(float_input(t.name, list(t.dims)) for t in model.graph.initializer)

    m = Maker(["n", 5])
    path = edited(tmp_path / "m.onnx", m, chain(m), as_inputs)
    assert group(path) == "R>0^6 ⋊ S_6"


def test_functions_are_read_where_they_are_called(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    body = [helper.make_node("Gemm", ["a", "w", "b"], ["c"], transB=1), helper.make_node("Relu", ["c"], ["d"])]
    m.functions = [helper.make_function("own", "Layer", ["a", "w", "b"], ["d"], body, [helper.make_opsetid("", 17)])]
    x = m.node("Layer", "x", m.weight(6, 5), m.weight(6), domain="own")
    x = m.node("Layer", x, m.weight(4, 6), m.weight(4), domain="own")
    path = m.save(tmp_path / "m.onnx", m.linear(x, 4, 2))
    assert group(path) == "R>0^6 ⋊ S_6 × R>0^4 ⋊ S_4"
    stays_the_same(path)
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, tmp_path / "c.onnx")
    assert len(onnx.load(str(tmp_path / "c.onnx")).functions) == 1


def test_what_a_branch_reads_from_outside_is_frozen(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    weight = m.weight(6, 6)
    x = m.node("Relu", m.linear("x", 5, 6))
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, [x, weight], [name])], name, [], [float_input(name, ["n", 6])]
        )
        for name, kind in (("then", "MatMul"), ("else", "Gemm"))
    }
    condition = m.node("Greater", m.node("ReduceSum", "x", keepdims=0), m.number(0))
    y = m.node("Relu", m.linear(m.node("If", condition, **branches), 6, 4))
    path = m.save(tmp_path / "m.onnx", m.linear(y, 4, 2))
    report = nfn_cli.symmetry_report(path).as_json()
    assert report["networks"][0]["group"] == "R>0^4 ⋊ S_4"
    assert any("If" in entry for entry in report["opaque"])
    assert report["check"]["passed"] is None  # our evaluator cannot run it, and says so
    nfn_cli.save(nfn_cli.act(nfn_cli.random_element(path, seed=2), path), tmp_path / "g.onnx")
    assert residual(run(path), run(tmp_path / "g.onnx")) < 1e-5


def test_a_tensor_that_is_read_as_a_number_stays(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    shared = m.numbers(0.7)
    x = m.node("Relu", m.node("Gemm", "x", m.weight(1, 5), shared, transB=1))
    x = m.node("Relu", m.linear(m.node("Mul", x, shared), 1, 4))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 4, 2))
    moved = nfn_cli.act(nfn_cli.random_element(path, seed=2), path)
    assert moved.tensors[shared] == nfn_cli.load(path).tensors[shared]
    stays_the_same(path)


def test_a_layer_of_one_unit_keeps_its_bias(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    x = m.node("Relu", m.node("Add", m.node("MatMul", "x", m.weight(5, 1)), m.weight(1)))
    assert group(m.save(tmp_path / "m.onnx", m.linear(x, 1, 2))) == "R>0^1 ⋊ S_1"
    stays_the_same(tmp_path / "m.onnx")


@pytest.mark.parametrize("shape", [["n", 2, "h", "w"], ["n", "c", None, None], [2, 2, 40, "w"]])
def test_open_sizes_do_not_matter(tmp_path: Path, shape: list[int | str]) -> None:
    m = Maker(shape)
    x = m.node("Relu", m.conv("x", 2, 5, strides=[2, 2]))
    x = m.node("Relu", m.conv(m.node("MaxPool", x, kernel_shape=[3, 3]), 5, 4))
    x = m.node("Flatten", m.node("GlobalAveragePool", x))
    assert group(m.save(tmp_path / "m.onnx", m.linear(x, 4, 2))) == "R>0^5 ⋊ S_5 × R>0^4 ⋊ S_4"


def test_a_size_that_only_the_head_tells_is_found(tmp_path: Path) -> None:
    m = Maker(["n", 1, "h", "w"])
    x = m.node("Flatten", m.node("Relu", m.conv("x", 1, 3, strides=[2, 2])))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 3 * 14 * 14, 2))
    assert group(path) == "R>0^3 ⋊ S_3"
    assert "axis 2 of x as 28" in " ".join(nfn_cli.open_model(path).networks[0].notes)


def test_a_batch_of_one_written_into_the_graph(tmp_path: Path) -> None:
    m = Maker(["n", 2, 4, 4])
    x = m.node("Reshape", m.node("Tanh", m.conv("x", 2, 3)), m.integers(1, -1))
    assert group(m.save(tmp_path / "m.onnx", m.linear(x, 48, 2))) == "{±1}^3 ⋊ S_3"


def test_the_answer_of_a_classifier_is_cut_off(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    scores = m.node("Softmax", chain(m))
    label = m.node("Cast", m.node("ArgMax", scores, axis=1), to=TensorProto.INT64)
    path = m.save(tmp_path / "m.onnx", label, m.node("TopK", scores, m.integers(1), outputs=2)[0])
    assert group(path) == "R>0^6 ⋊ S_6"


def test_a_node_in_the_middle_freezes_both_sides_and_no_more(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    x = m.linear(m.node("Relu", m.linear("x", 5, 6)), 6, 4)
    x = m.node("Relu", m.linear(m.node("Round", x), 4, 3))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 3, 2))
    report = nfn_cli.symmetry_report(path).as_json()
    assert report["networks"][0]["group"] == "R>0^6 ⋊ S_6 × R>0^3 ⋊ S_3"
    assert [entry.split(": ")[1] for entry in report["opaque"]] == ["Round"]


@pytest.mark.parametrize(("omega", "expected"), [(30.0, "D∞ ≀ S_6"), (-2.0, "D∞ ≀ S_6"), (None, "D∞ ≀ S_6")])
def test_the_factor_before_a_sine_is_its_frequency(tmp_path: Path, omega: float | None, expected: str) -> None:
    m = Maker(["n", 2], np.float64)
    x = m.linear("x", 2, 6)
    x = m.node("Sin", x if omega is None else m.node("Mul", m.number(omega), x))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 6, 3))
    assert group(path) == expected
    stays_the_same(path)


def test_a_factor_read_elsewhere_leaves_no_phases(tmp_path: Path) -> None:
    m = Maker(["n", 2], np.float64)
    x = m.node("Mul", m.linear("x", 2, 6), m.number(3.0))
    x = m.node("Concat", m.node("Sin", x), m.node("Tanh", x), axis=1)
    path = m.save(tmp_path / "m.onnx", m.linear(x, 12, 3))
    assert group(path) == "{±1}^6 ⋊ S_6"
    stays_the_same(path)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_gemm_with_factors(tmp_path: Path, alpha: float) -> None:
    m = Maker(["n", 5], np.float64)
    x = m.node("Gemm", "x", m.weight(5, 6), m.weight(6), alpha=alpha, beta=0.5)
    path = m.save(tmp_path / "m.onnx", m.linear(m.node("Relu", x), 6, 2))
    assert group(path) == "R>0^6 ⋊ S_6"
    stays_the_same(path)


FORMULAS = {
    "gelu": lambda m, x: m.node(
        "Mul",
        m.node("Mul", x, m.node("Add", m.node("Erf", m.node("Div", x, m.number(2**0.5))), m.number(1))),
        m.number(0.5),
    ),
    "silu": lambda m, x: m.node("Mul", m.node("Sigmoid", x), x),
    "mish": lambda m, x: m.node("Mul", x, m.node("Tanh", m.node("Softplus", x))),
    "hardswish": lambda m, x: m.node(
        "Div", m.node("Mul", x, m.node("Clip", m.node("Add", x, m.number(3)), m.number(0), m.number(6))), m.number(6)
    ),
}


@pytest.mark.parametrize("function", FORMULAS)
def test_activations_written_as_formulas_get_their_name(tmp_path: Path, function: str) -> None:
    m = Maker(["n", 5])
    path = m.save(tmp_path / "m.onnx", m.linear(FORMULAS[function](m, m.linear("x", 5, 6)), 6, 2))
    assert nfn_cli.open_model(path).networks[0].activation == (function,)
    assert group(path) == "S_6"


def test_another_formula_gets_no_name(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    x = m.linear("x", 5, 6)
    x = m.node("Mul", x, m.node("Add", m.node("Erf", m.node("Div", x, m.number(2.0))), m.number(1)))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 6, 2))
    assert nfn_cli.open_model(path).networks[0].activation == ("erf",)
    assert group(path) == "S_6"


def pieces_of_layer_norm(m: Maker, x: str) -> str:
    centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[-1]))
    variance = m.node("ReduceMean", m.node("Pow", centred, m.number(2)), axes=[-1])
    x = m.node("Div", centred, m.node("Sqrt", m.node("Add", variance, m.number(1e-5))))
    return m.node("Add", m.node("Mul", x, m.weight(6)), m.weight(6))


def test_a_layer_norm_in_pieces_has_the_group_of_a_whole_one(tmp_path: Path) -> None:
    found = []
    for number, norm in enumerate(
        (pieces_of_layer_norm, lambda m, x: m.node("LayerNormalization", x, m.weight(6), m.weight(6)))
    ):
        m = Maker(["n", 5], np.float64)
        path = m.save(tmp_path / f"{number}.onnx", m.linear(m.node("Relu", norm(m, m.linear("x", 5, 6))), 6, 2))
        found.append(group(path))
        stays_the_same(path)
    assert found[0] == found[1] != "S_6"


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    m = Maker(["n", 3])
    m.inputs["z"] = ["n", 2]
    x = m.node("Relu", m.linear(m.node("Concat", "x", "z", axis=1), 5, 6))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 6, 2), m.node("Tanh", m.linear(x, 6, 1)))
    graph = nfn_cli.open_model(path).networks[0].graph
    assert [entry.name for entry in graph.inputs] == ["x", "z"]
    assert len(graph.outputs) == 2
    assert group(path) == "R>0^6 ⋊ S_6"


def test_external_data_is_read_and_comes_back_inside(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    model = m.model(chain(m))
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    stays_the_same(tmp_path / "m.onnx")


def test_units_on_another_axis_than_the_second_are_not_lost_in_a_flatten(tmp_path: Path) -> None:
    m = Maker([2, 3, 5])
    x = m.node("Relu", m.node("Add", m.node("MatMul", "x", m.weight(5, 4)), m.weight(4)))
    x = m.node("Relu", m.linear(m.node("Reshape", x, m.integers(2, 12)), 12, 6))
    path = m.save(tmp_path / "m.onnx", m.linear(x, 6, 2))
    assert group(path) == "R>0^4 ⋊ S_4 × R>0^6 ⋊ S_6"
    stays_the_same(path)


def test_a_float16_model_stays_one(tmp_path: Path) -> None:
    m = Maker(["n", 5], np.float16)
    path = m.save(tmp_path / "m.onnx", chain(m))
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, tmp_path / "c.onnx")
    weights = onnx.load(str(tmp_path / "c.onnx")).graph.initializer
    assert {numpy_helper.to_array(weight).dtype for weight in weights} == {np.dtype(np.float16)}
    assert residual(run(path), run(tmp_path / "c.onnx", feeds(path))) < 1e-2


def test_a_network_of_embeddings_is_read_behind_them(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    table = m.weight(10, 4)
    places = m.node("Cast", "x", to=TensorProto.INT64)
    x = m.node("ReduceMean", m.node("Gather", table, places), axes=[1], keepdims=0)
    path = m.save(tmp_path / "m.onnx", m.linear(m.node("Relu", m.linear(x, 4, 6)), 6, 2))
    report = nfn_cli.symmetry_report(path)
    assert group(path) == "R>0^6 ⋊ S_6"
    assert any("Gather" in note for note in report.networks[0].notes)
    moved = nfn_cli.act(nfn_cli.random_element(path, seed=2), path)
    assert np.array_equal(moved.tensors[table], nfn_cli.load(path).tensors[table])


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    scale, zero = m.number(0.1), m.tensor(np.array(0, np.int8))
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", "x", scale, zero), scale, zero)
    with pytest.raises(NfnError) as caught:
        nfn_cli.symmetry_report(m.save(tmp_path / "m.onnx", m.linear(x, 5, 2)))
    assert caught.value.code == "quantized"
