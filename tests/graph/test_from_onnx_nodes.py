"""Every node kind that is understood computes what onnx computes, and moving units keeps what onnx computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import nfn_cli
from nfn_cli.graph.reference import evaluate
from tests.graph.onnx_maker import Maker, feeds, residual, run

IMAGE = [2, 2, 6, 7]
Case = Callable[[Maker, str], str]
CASES: dict[str, tuple[Case, int]] = {}


def case(name: str, opset: int = 17) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        CASES[name] = (function, opset)
        return function

    return register


def simple(name: str, kind: str, opset: int = 17, **attributes: object) -> None:
    CASES[name] = (lambda m, x: m.node(kind, x, **attributes), opset)


for kind in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "Erf", "Abs", "Sin", "Cos", "Atan", "Asinh", "HardSwish",
             "Mish", "Exp", "Neg", "Identity", "Selu", "Elu", "LeakyRelu", "HardSigmoid", "Celu"):  # fmt: skip
    simple(kind, kind, 18)
simple("Gelu", "Gelu", 20)
simple("GeluTanh", "Gelu", 20, approximate="tanh")
simple("LeakyReluAlpha", "LeakyRelu", alpha=0.3)
simple("EluAlpha", "Elu", alpha=0.7)
simple("CeluAlpha", "Celu", alpha=0.7)
simple("SeluAlpha", "Selu", alpha=1.1, gamma=0.9)
simple("HardSigmoidTorch", "HardSigmoid", alpha=1 / 6, beta=0.5)
simple("ThresholdedReluZero", "ThresholdedRelu", alpha=0.0)
simple("Softmax", "Softmax", axis=1)
simple("LogSoftmax", "LogSoftmax", axis=-1)
simple("GlobalAveragePool", "GlobalAveragePool")
simple("GlobalMaxPool", "GlobalMaxPool")
simple("DepthToSpace", "DepthToSpace", blocksize=2)
simple("DepthToSpaceCRD", "DepthToSpace", blocksize=2, mode="CRD")
simple("Transpose", "Transpose", perm=[0, 1, 3, 2])
simple("MaxPool", "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
simple("MaxPoolUneven", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
simple("MaxPoolUnevenOdd", "MaxPool", kernel_shape=[3, 2], strides=[3, 1], pads=[1, 1, 2, 0])
simple("MaxPoolCeil", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
simple("MaxPoolSame", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
simple("MaxPoolDilated", "MaxPool", kernel_shape=[2, 2], strides=[1, 1], dilations=[2, 2], pads=[1, 0, 0, 1])
simple("AveragePool", "AveragePool", kernel_shape=[2, 3], strides=[2, 1])
simple("AveragePoolPadded", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
simple("AveragePoolCounted", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
simple("AveragePoolUneven", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
simple(
    "AveragePoolUnevenCounted",
    "AveragePool",
    kernel_shape=[3, 3],
    strides=[2, 2],
    pads=[0, 1, 2, 0],
    count_include_pad=1,
)
simple("AveragePoolSame", "AveragePool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER")
simple("AveragePoolCeil", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
for axes in ([2, 3], [1], [1, 2, 3]):
    simple(f"ReduceMean{axes}", "ReduceMean", axes=axes)
simple("ReduceMax", "ReduceMax", axes=[2], keepdims=1)
simple("ReduceMin", "ReduceMin", axes=[-1], keepdims=1)
simple("ReduceL2", "ReduceL2", axes=[1])
simple("ReduceL1", "ReduceL1", axes=[2])
simple("ReduceSumSquare", "ReduceSumSquare", axes=[1])
simple("LpNormalization", "LpNormalization", axis=1)
simple("Dropout", "Dropout")


def binary(name: str, kind: str, other: Callable[[Maker], str], swapped: bool = False) -> None:
    CASES[name] = (lambda m, x: m.node(kind, *([other(m), x] if swapped else [x, other(m)])), 17)


for kind in ("Add", "Sub", "Mul", "Div"):
    for swapped in (False, True):
        if (kind, swapped) != ("Div", True):
            binary(f"{kind}Number{swapped}", kind, lambda m: m.number(1.7), swapped)
            binary(f"{kind}Vector{swapped}", kind, lambda m: m.weight(4, 1, 1, positive=True), swapped)
            binary(f"{kind}Map{swapped}", kind, lambda m: m.weight(1, 4, 6, 7, positive=True), swapped)
            binary(f"{kind}Position{swapped}", kind, lambda m: m.weight(6, 1, positive=True), swapped)
for exponent in (1.0, 2.0, 3.0, 4.0):
    binary(f"Pow{exponent:.0f}", "Pow", lambda m, e=exponent: m.number(e))
binary("PReluOne", "PRelu", lambda m: m.weight(1))
binary("PReluChannels", "PRelu", lambda m: m.weight(4, 1, 1))
binary("PReluMap", "PRelu", lambda m: m.weight(4, 6, 7))
binary("MaxNumber", "Max", lambda m: m.number(0.3))
binary("MinNumber", "Min", lambda m: m.number(0.3), True)
binary("Expand", "Expand", lambda m: m.integers(3, 1, 4, 1, 1))
binary("Tile", "Tile", lambda m: m.integers(1, 2, 1, 3))
binary("ReshapeZero", "Reshape", lambda m: m.integers(0, 2, -1, 7))
CASES["GatherOne"] = (lambda m, x: m.node("Gather", x, m.tensor(np.array(-1)), axis=2), 17)
CASES["GatherSome"] = (lambda m, x: m.node("Gather", x, m.integers(3, 0, 1), axis=1), 17)
CASES["Slice"] = (
    lambda m, x: m.node("Slice", x, m.integers(1, 0), m.integers(2**40, -1), m.integers(2, -1), m.integers(2, 3)),
    17,
)
CASES["Pad"] = (lambda m, x: m.node("Pad", x, m.integers(0, 0, 1, 2, 0, 0, 3, 1), m.number(0.5)), 17)
for mode in ("reflect", "edge", "wrap"):
    CASES[f"Pad{mode}"] = (lambda m, x, how=mode: m.node("Pad", x, m.integers(0, 0, 1, 2, 0, 0, 3, 0), mode=how), 19)
CASES["Squeeze"] = (lambda m, x: m.node("Squeeze", m.node("Unsqueeze", x, m.integers(0, 3)), m.integers(0)), 17)
CASES["ClipRelu6"] = (lambda m, x: m.node("Clip", x, m.number(0), m.number(6)), 17)
CASES["ClipOneSide"] = (lambda m, x: m.node("Clip", x, "", m.number(0.4)), 17)
CASES["ClipSimilar"] = (lambda m, x: m.node("Clip", x, m.number(-0.2), m.number(0.4)), 17)
CASES["LogSqrt"] = (lambda m, x: m.node("Log", m.node("Sqrt", m.node("Add", m.node("Abs", x), m.number(0.1)))), 17)
CASES["Mean"] = (lambda m, x: m.node("Mean", x, m.node("Relu", x), m.node("Tanh", x)), 17)
CASES["Sum"] = (lambda m, x: m.node("Sum", x, m.node("Relu", x), m.node("Tanh", x)), 17)
CASES["Gate"] = (lambda m, x: m.node("Mul", m.node("Sigmoid", m.conv(x, 4, 4)), m.node("Tanh", m.conv(x, 4, 4))), 17)
CASES["Quotient"] = (lambda m, x: m.node("Div", x, m.node("Exp", m.conv(x, 4, 4))), 17)
CASES["SpaceToDepth"] = (
    lambda m, x: m.node("SpaceToDepth", m.node("Pad", x, m.integers(0, 0, 0, 0, 0, 0, 0, 1)), blocksize=2),
    17,
)


@case("Split")
def split(m: Maker, x: str) -> str:
    a, b, c = m.node("Split", x, m.integers(1, 1, 2), outputs=3, axis=1)
    return m.node("Concat", m.node("Add", a, b), m.node("Relu", c), axis=1)


@case("SplitEven", 18)
def split_even(m: Maker, x: str) -> str:
    a, b = m.node("Split", x, outputs=2, axis=1, num_outputs=2)
    return m.node("Mul", a, m.node("Sigmoid", b))


@case("UnevenConv")
def uneven_conv(m: Maker, x: str) -> str:
    return m.conv(x, 4, 5, pads=[0, 1, 2, 0], strides=[2, 1])


@case("SameConv")
def same_conv(m: Maker, x: str) -> str:
    return m.node("Conv", x, m.weight(5, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 2])


@case("SameLowerDilatedConv")
def same_lower(m: Maker, x: str) -> str:
    return m.node("Conv", x, m.weight(5, 4, 2, 2), auto_pad="SAME_LOWER", dilations=[2, 1], kernel_shape=[2, 2])


@case("DepthwiseConv")
def depthwise(m: Maker, x: str) -> str:
    return m.conv(x, 4, 8, group=4)


@case("GroupedConv")
def grouped(m: Maker, x: str) -> str:
    return m.conv(x, 4, 6, group=2)


@case("ConvOfTransposedWeight")
def transposed_weight(m: Maker, x: str) -> str:
    return m.node("Conv", x, m.node("Transpose", m.weight(3, 3, 4, 5), perm=[3, 2, 0, 1]))


@case("ConvOfComputedWeight")
def computed_weight(m: Maker, x: str) -> str:
    weight = m.weight(5, 4, 3, 3)
    centred = m.node("Sub", weight, m.node("ReduceMean", weight, axes=[1, 2, 3]))
    return m.node("Conv", x, centred, m.weight(5))


for name, attributes in {
    "ConvTranspose": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "ConvTransposeUneven": {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    "ConvTransposeOutputPadding": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    "ConvTransposeWiderOutput": {"strides": [2, 3], "output_padding": [1, 2]},
    "ConvTransposeSame": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
}.items():
    CASES[name] = (lambda m, x, a=attributes: m.node("ConvTranspose", x, m.weight(4, 3, 3, 3), m.weight(3), **a), 17)


@case("Norms")
def norms(m: Maker, x: str) -> str:
    x = m.node("InstanceNormalization", x, m.weight(4), m.weight(4), epsilon=1e-3)
    return m.node("LayerNormalization", x, m.weight(7), m.weight(7), axis=-1)


@case("WideLayerNorm")
def wide_layer_norm(m: Maker, x: str) -> str:
    return m.node("LayerNormalization", x, m.weight(4, 6, 7), m.weight(4, 6, 7), axis=1)


@case("GroupNormalization", 21)
def group_norm(m: Maker, x: str) -> str:
    return m.node("GroupNormalization", x, m.weight(4), m.weight(4), num_groups=2)


@case("MatMulByTransposed")
def matmul_transposed(m: Maker, x: str) -> str:
    return m.node("Add", m.node("MatMul", x, m.node("Transpose", m.weight(5, 7), perm=[1, 0])), m.weight(5))


@case("MatMulOfOneObservation")
def matmul_of_a_vector(m: Maker, x: str) -> str:
    one = m.node("ReduceMean", x, axes=[0, 1, 2], keepdims=0)
    hidden = m.node("Relu", m.node("Add", m.node("MatMul", one, m.weight(7, 5)), m.weight(5)))
    return m.node("Expand", m.node("MatMul", hidden, m.weight(5, 3)), m.integers(2, 3))


@case("MatMulFromTheLeft")
def matmul_left(m: Maker, x: str) -> str:
    return m.node("MatMul", m.weight(5, 6), x)


@case("SharedByIdentity")
def shared(m: Maker, x: str) -> str:
    weight = m.weight(4, 4, 1, 1)
    return m.node("Conv", m.node("Relu", m.node("Conv", x, weight)), m.node("Identity", weight))


@case("ShapeArithmetic")
def shape_arithmetic(m: Maker, x: str) -> str:
    shape = m.node("Shape", x)
    batch = m.node("Unsqueeze", m.node("Gather", shape, m.tensor(np.array(0))), m.integers(0))
    rest = m.node("ReduceProd", m.node("Slice", shape, m.integers(2), m.integers(4)), keepdims=1)
    rows = m.node("Div", m.node("Cast", rest, to=7), m.integers(7))
    return m.node("Reshape", x, m.node("Concat", batch, m.integers(-1), rows, m.integers(7), axis=0))


@case("ConstantOfShape")
def constant_of_shape(m: Maker, x: str) -> str:
    ones = helper.make_tensor("v", onnx.TensorProto.DOUBLE, [1], [2.0])
    return m.node("Add", x, m.node("ConstantOfShape", m.node("Shape", x), value=ones))


for name, attributes, inputs in (
    ("ResizeNearest", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, "scales"),
    ("ResizeHalfPixel", {"mode": "nearest"}, "scales"),
    ("ResizeLinear", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, "sizes"),
    ("ResizeCorners", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, "sizes"),
):  # fmt: skip
    CASES[name] = (
        lambda m, x, a=attributes, i=inputs: m.node(
            "Resize",
            x,
            "",
            m.tensor(np.array([1, 1, 2, 2], np.float32)) if i == "scales" else "",
            *([m.integers(2, 4, 9, 5)] if i == "sizes" else []),
            **a,
        ),
        17,
    )


def network(name: str, path: Path) -> Path:
    """Convolution, the node, a function of its own kind, so that units of both sides are hidden ones."""
    make, opset = CASES[name]
    m = Maker(IMAGE, np.float64, opset)
    x = make(m, m.conv("x", 2, 4))
    size = m.node("Reshape", x, m.integers(2, -1))
    width = ReferenceEvaluator(m.model(size)).run(None, {"x": np.zeros(IMAGE)})[0].shape[1]
    return m.save(path, m.linear(size, width, 3))


# attributes such as alpha and epsilon are float32 in the file, and onnx' erf is an approximation
ROUNDING = 3e-7


@pytest.mark.parametrize("name", CASES)
def test_our_graph_computes_what_onnx_computes(tmp_path: Path, name: str) -> None:
    path = network(name, tmp_path / "m.onnx")
    model = nfn_cli.open_model(path)
    graph = model.networks[0].graph
    assert not [op.attributes for op in graph.ops if op.kind == "opaque"]
    ours = list(evaluate(graph, model.checkpoint.tensors, feeds(path)))
    assert residual(run(path), ours) < ROUNDING


@pytest.mark.parametrize("name", CASES)
def test_group_elements_keep_what_onnx_computes(tmp_path: Path, name: str) -> None:
    path = network(name, tmp_path / "m.onnx")
    element = nfn_cli.random_element(path, seed=3)
    nfn_cli.save(nfn_cli.act(element, path), tmp_path / "g.onnx")
    assert residual(run(path), run(tmp_path / "g.onnx")) < ROUNDING
    assert nfn_cli.symmetry_report(path).passed


@pytest.mark.parametrize("name", ["Relu", "UnevenConv", "GroupNormalization"])
def test_the_comparison_notices_a_weight_that_moved(tmp_path: Path, name: str) -> None:
    path = network(name, tmp_path / "m.onnx")
    checkpoint = nfn_cli.load(path)
    nfn_cli.save(checkpoint.with_tensors({"w0": np.roll(checkpoint.tensors["w0"], 1, 0)}), tmp_path / "g.onnx")
    assert residual(run(path), run(tmp_path / "g.onnx")) > 1e-3
