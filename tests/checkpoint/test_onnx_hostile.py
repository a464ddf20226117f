"""ONNX files of strangers: refused in one line, in little memory, whatever they claim."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nfn_cli
from nfn_cli.errors import NfnError
from tests.graph.onnx_maker import Maker, float_input


def mlp(path: Path) -> Path:
    m = Maker(["n", 5])
    return m.save(path, m.linear(m.node("Relu", m.linear("x", 5, 6)), 6, 2))


def changed(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(str(mlp(path)))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def code_of(path: Path) -> str:
    with pytest.raises(NfnError) as caught:
        nfn_cli.symmetry_report(path)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = mlp(tmp_path / "m.onnx").read_bytes()
    for length in range(1, len(data) - 1, 7):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        with pytest.raises(NfnError):
            nfn_cli.symmetry_report(tmp_path / "cut.onnx")


def test_bytes_changed_at_random_never_crash(tmp_path: Path) -> None:
    data = np.frombuffer(mlp(tmp_path / "m.onnx").read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = data.copy()
        broken[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
        (tmp_path / "b.onnx").write_bytes(broken.tobytes())
        try:
            nfn_cli.symmetry_report(tmp_path / "b.onnx")
        except NfnError:
            refused += 1
    assert 0 < refused < 300


def lying_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def negative_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -6


def wrong_product(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([7, 5])


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[2].output[0]


def nobody_makes(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nothing"


def no_such_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def no_input_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def wide_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**50


def other_width(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def quantized(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("QuantizeLinear", ["x", "w1"], ["q"]))
    model.graph.output.append(float_input("q", ["n", 5]))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [9]))


def empty_graph(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def calls_itself(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = helper.make_node("F", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node], [helper.make_opsetid("own", 1)]))


def doubling_functions(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
    model.opset_import.append(opsets[0])
    for level in range(40):
        call = f"F{level - 1}" if level else "Relu"
        domain = "own" if level else ""
        nodes = [
            helper.make_node(call, ["a"], ["b"], domain=domain),
            helper.make_node(call, ["b"], ["c"], domain=domain),
        ]
        model.functions.append(helper.make_function("own", f"F{level}", ["a"], ["c"], nodes, opsets))
    model.graph.node[1].op_type, model.graph.node[1].domain = "F39", "own"


def huge_expand(model: onnx.ModelProto) -> None:
    shape = helper.make_node("Constant", [], ["s"], value_ints=[2**30, 2**30, 5])
    model.graph.node.insert(0, shape)
    model.graph.node.insert(1, helper.make_node("Expand", ["x", "s"], ["big"]))
    model.graph.node[2].input[0] = "big"


def huge_pad(model: onnx.ModelProto) -> None:
    amounts = helper.make_node("Constant", [], ["s"], value_ints=[2**40, 0, 0, 0])
    model.graph.node.insert(0, amounts)
    model.graph.node.insert(1, helper.make_node("Pad", ["x", "s"], ["big"]))
    model.graph.node[2].input[0] = "big"


REFUSED = {
    lying_dims: "bad-header",
    negative_dims: "bad-header",
    wrong_product: "bad-header",
    unknown_type: "bad-header",
    twice: "bad-graph",
    cycle: "bad-graph",
    nobody_makes: "bad-graph",
    no_such_output: "bad-graph",
    made_twice: "bad-graph",
    no_input_shape: "unknown-input-shape",
    wide_input: "too-large",
    other_width: "shape-mismatch",
    quantized: "quantized",
    sparse: "sparse-weights",
    empty_graph: "bad-graph",
    calls_itself: "functions",
    doubling_functions: "too-large",
    huge_expand: "too-large",
    huge_pad: "too-large",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda f: f.__name__)
def test_what_a_file_cannot_mean_is_refused_with_its_reason(tmp_path: Path, change) -> None:
    assert code_of(changed(tmp_path / "m.onnx", change)) == REFUSED[change]


def test_the_file_before_the_change_is_taken(tmp_path: Path) -> None:
    assert nfn_cli.symmetry_report(changed(tmp_path / "m.onnx", lambda model: None)).passed


def test_constants_that_would_fill_the_memory_are_not_computed(tmp_path: Path) -> None:
    m = Maker(["n", 5])
    big = m.node("ConstantOfShape", m.integers(2**20, 2**20))
    ramp = m.node("Range", m.tensor(np.array(0)), m.tensor(np.array(2**50)), m.tensor(np.array(1)))
    x = m.node("Add", m.linear("x", 5, 6), m.node("ReduceSum", big, keepdims=0))
    x = m.node("Add", m.node("Relu", x), m.node("Cast", m.node("ReduceMax", ramp, keepdims=0), to=1))
    assert code_of(m.save(tmp_path / "m.onnx", m.linear(x, 6, 2))) in ("too-large", "unknown-shape")


def test_a_hundred_thousand_nodes_are_a_chain_or_refused(tmp_path: Path) -> None:
    m = Maker(["n", 3])
    x = m.linear("x", 3, 4)
    for _ in range(10_000):
        x = m.node("Relu", x)
    assert nfn_cli.symmetry_report(m.save(tmp_path / "m.onnx", m.linear(x, 4, 2))).passed
    model = onnx.load(str(tmp_path / "m.onnx"))
    for number in range(100_000):
        model.graph.node.append(helper.make_node("Relu", ["x"], [f"more{number}"]))
    (tmp_path / "more.onnx").write_bytes(model.SerializeToString())
    assert code_of(tmp_path / "more.onnx") == "too-large"


def test_millions_of_empty_messages_are_not_parsed(tmp_path: Path) -> None:
    """Two bytes in the file, a hundred in the memory."""
    graph = b"\x0a\x00" * 3_000_000
    size, value = b"", len(graph)
    while value > 127:
        size, value = size + bytes([value & 127 | 128]), value >> 7
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + b"\x3a" + size + bytes([value]) + graph + b"\x42\x02\x10\x11")
    assert code_of(tmp_path / "m.onnx") == "too-large"


def test_one_external_file_read_a_thousand_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(1 << 22))
    model = onnx.load(str(mlp(tmp_path / "m.onnx")))
    for number in range(1000):
        tensor = TensorProto(name=f"e{number}", data_type=TensorProto.FLOAT, dims=[1 << 20])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="data.bin")
        model.graph.initializer.append(tensor)
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    assert code_of(tmp_path / "e.onnx") == "bad-header"


@pytest.mark.parametrize("location", ["/etc/hostname", "../outside.bin", "missing.bin", ""])
def test_external_data_lies_beside_the_model(tmp_path: Path, location: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(120))

    def external(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    assert code_of(changed(tmp_path / "in" / "m.onnx", external)) == "missing-external-data"


def test_a_hostile_file_needs_little_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process took")
    path = changed(tmp_path / "m.onnx", doubling_functions)
    code = (
        "import nfn_cli\n"
        f"try:\n    nfn_cli.symmetry_report({str(path)!r})\n"
        "except nfn_cli.errors.NfnError as error:\n    assert error.code == 'too-large'\n"
        "else:\n    raise SystemExit(1)\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "assert int(peak.split()[1]) < 400_000, peak\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
