"""Whether a graph can be run at all on inputs of a shape, and whether it says all that its network computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nfn_cli.checkpoint import Checkpoint
from nfn_cli.graph import NameOptions, networks_from_names
from nfn_cli.graph.architecture_index import library_graph
from nfn_cli.graph.model import Graph, GraphInput, Op
from nfn_cli.graph.reference import random_inputs
from nfn_cli.graph.small_cnn import LayerTensors, small_cnn_graph
from nfn_cli.networks.graph_evaluator import evaluate, takes_input, unknown_in
from nfn_cli.networks.graph_evaluator.rows import evaluate_in_rows, rows_at_once
from nfn_cli.networks.graph_evaluator.shapes import traced
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.population import Architecture, ConvLayer
from tests.networks.graph_cases import CASES
from tests.symmetry.networks import ALL

NAMED = NameOptions(activation="relu")
LAYERS = (ConvLayer(8, 2), ConvLayer(8, 1), ConvLayer(16, 2))


def zoo_graph(shape: tuple[int, ...] = (16, 1, 3, 3)) -> Graph:
    layers = [LayerTensors("conv.weight", "conv.bias", shape, 0, 1), LayerTensors("fc.weight", None, (10, 16), 0, 1)]
    return small_cnn_graph(layers, "relu", stride=2, padding=0)


def named(options: NameOptions = NAMED, **shapes: tuple[int, ...]) -> Graph:
    tensors = {name.replace("__", "."): np.zeros(shape) for name, shape in shapes.items()}
    return networks_from_names(Checkpoint("file", "safetensors", tensors), options)[0].graph


def test_open_axes_take_any_length_that_leaves_a_position() -> None:
    graph = zoo_graph()
    assert takes_input(graph, (1, 32, 32)) is None
    assert takes_input(graph, (1, 3, 50)) is None
    assert "conv.weight: conv does not fit" in str(takes_input(graph, (1, 2, 2)))


def test_stated_lengths_are_the_only_ones() -> None:
    assert takes_input(zoo_graph(), (3, 32, 32)) == "it reads inputs of shape 1×any×any, not 3×32×32"
    assert takes_input(zoo_graph(), (32,)) == "it reads inputs of shape 1×any×any, not 32"
    assert takes_input(ALL["mlp-relu"](0)[0].graph, (5,)) is None
    assert takes_input(ALL["mlp-relu"](0)[0].graph, (6,)) == "it reads inputs of shape 5, not 6"
    assert takes_input(ALL["concatenation-relu"](0)[0].graph, (5,)) == "it reads 2 inputs, not one"


def test_what_is_taken_can_be_run_in_any_batch() -> None:
    graph = library_graph("torchvision:squeezenet1_1")
    assert takes_input(graph, (3, 96, 96)) is None
    assert "3×96×96" in str(takes_input(graph, (3, 64, 64)))
    tensors = {name: torch.zeros(shape) for name, shape in graph.parameter_shapes.items()}
    assert evaluate(graph, tensors, {graph.inputs[0].name: torch.zeros(1, 3, 96, 96)})[0].shape == (1, 1000)


def test_answers_that_are_not_one_for_each_input_are_noticed() -> None:
    mean = Op("reduce", ("x",), "y", {}, {"axes": [0, 1], "statistic": "mean"})
    graph = Graph((GraphInput("x", (None, 3)),), (mean,), ("y",), {})
    assert takes_input(graph, (3,)) == "its answer is not one for each input"
    assert takes_input(replace(graph, ops=(replace(mean, attributes={**mean.attributes, "axes": [1]}),)), (3,)) is None


def test_a_value_beyond_all_measure_is_not_made() -> None:
    pad = Op("pad", ("x",), "y", {}, {"before": [0, 1 << 29], "after": [0, 0]})
    assert "makes a value of shape 536870915" in str(
        takes_input(Graph((GraphInput("x", (None, 3)),), (pad,), ("y",), {}), (3,))
    )


def test_unknown_ops_are_named() -> None:
    opaque = Op("opaque", ("x",), "y", {}, {"shape": (0, 3), "reason": "fc: order of the joined inputs"})
    graph = Graph((GraphInput("x", (None, 3)),), (opaque,), ("y",), {})
    assert (
        takes_input(graph, (3,)) == "inputs of shape 3 do not pass through y: not known: fc: order of the joined inputs"
    )
    assert unknown_in(graph) == ("fc: order of the joined inputs",)
    other = replace(graph, ops=(replace(opaque, kind="aten.cumsum"),))
    assert unknown_in(other) == ("what aten.cumsum behind the input computes is not known",)


@pytest.mark.parametrize(
    "graph",
    [
        zoo_graph(),
        *(
            cnn_graph(Architecture(1, 8, 8, 10, LAYERS, function, batch_norm=flag, residual=flag))
            for function in ("leaky_relu", "silu")
            for flag in (False, True)
        ),
        library_graph("torchvision:resnet18"),
        named(fc1__weight=(7, 5), fc1__bias=(7,), fc2__weight=(3, 7)),
    ],
)
def test_graphs_that_say_everything(graph: Graph) -> None:
    assert unknown_in(graph) == ()


def test_names_do_not_tell_how_a_convolution_steps() -> None:
    graph = named(features__0__weight=(8, 3, 3, 3), features__3__weight=(6, 8, 3, 3), classifier__weight=(10, 96))
    assert set(unknown_in(graph)) >= {
        "the stride of features.0 is not in the file",
        "the padding of features.0 is not in the file",
        "the stride of features.3 is not in the file",
        "the padding of features.3 is not in the file",
        "how positions are pooled behind features.3 is not in the file",
    }
    settled = named(NameOptions(activation="relu", pooling="average"), conv__weight=(8, 3, 3, 3), fc__weight=(10, 8))
    assert unknown_in(settled)[0] == "the stride of conv is not in the file"


def test_names_do_not_tell_the_constant_of_a_norm() -> None:
    vectors = dict.fromkeys(("bn1__weight", "bn1__bias", "bn1__running_mean", "bn1__running_var"), (7,))
    assert unknown_in(named(fc1__weight=(7, 5), fc2__weight=(3, 7), **vectors)) == ("the ε of bn1 is not in the file",)


def test_what_was_only_assumed_is_named() -> None:
    graph = named(
        NameOptions(activation="tanh"),
        features__0__weight=(4, 1, 3, 3),
        features__3__weight=(4, 4, 3, 3),
        classifier__weight=(2, 4),
    )
    assert "whether max pooling stands behind features.0 is not in the file" in unknown_in(graph)


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (Op("add", ("x", "x"), "y"), "whether a sum with the block's input stands behind the input is not in the file"),
        (
            Op("pointwise", ("x",), "y", {}, {"function": "gelu"}),
            "whether an activation stands behind the input is not in the file",
        ),
        (
            Op("pointwise", ("x",), "y", {}, {"function": "sin"}),
            "the frequency of sin behind the input is not in the file",
        ),
    ],
)
def test_ops_that_a_front_end_marks_as_assumed(op: Op, reason: str) -> None:
    graph = Graph((GraphInput("x", (None, 3)),), (op,), ("y",), {})
    assert unknown_in(graph) == ()
    marked = replace(op, attributes={**op.attributes, "assumed": True})
    assert unknown_in(replace(graph, ops=(marked,))) == (reason,)


def test_a_slope_that_nobody_states_and_one_that_is_stated() -> None:
    unstated = named(NameOptions(activation="leaky_relu"), fc1__weight=(7, 5), fc2__weight=(3, 7))
    assert unknown_in(unstated) == ("the slope of leaky_relu behind fc1 is not in the file",)
    stated = tuple(
        replace(op, attributes={**op.attributes, "slope": 0.1}) if op.kind == "pointwise" else op for op in unstated.ops
    )
    assert unknown_in(replace(unstated, ops=stated)) == ()


@pytest.mark.parametrize("case", [case for case in CASES if "expand" not in case])  # to a batch of its own
def test_shapes_are_found_without_running(case: str) -> None:
    graph, tensors = CASES[case]()
    inputs = {name: torch.from_numpy(x) for name, x in random_inputs(graph, 0).items()}
    wanted = evaluate(graph, {name: torch.from_numpy(t) for name, t in tensors.items()}, inputs)
    found = traced(graph, {name: tuple(x.shape[1:]) for name, x in inputs.items()}, lambda op, shape: None)
    assert found is not None
    assert [shape[1:] for shape in found] == [tuple(answer.shape[1:]) for answer in wanted]


@pytest.mark.parametrize("name", ["cnn-relu", "residual-tanh", "grouped-relu", "normalized-tanh"])
def test_a_large_batch_is_cut_and_put_together_again(name: str) -> None:
    network, tensors = ALL[name](0)
    tensors = {name: torch.from_numpy(t) for name, t in tensors.items()}
    inputs = {name: torch.from_numpy(x) for name, x in random_inputs(network.graph, 0, batch=23).items()}
    whole = evaluate(network.graph, tensors, inputs)[0]
    assert torch.allclose(evaluate_in_rows(network.graph, tensors, inputs, 5)[0], whole, rtol=1e-12, atol=1e-14)


def test_only_rows_that_stand_alone_are_cut() -> None:
    """A batch is cut where no op can mix its rows; a mean over it, or a sum that broadcasts along it, is left whole."""

    def rows(*ops: Op) -> int | None:
        inputs = (GraphInput("x", (None, 64)), GraphInput("u", (None, 1, 64)))
        graph = Graph(inputs, ops, (ops[-1].output,), {})
        return rows_at_once(graph, {"x": torch.zeros(99, 64), "u": torch.zeros(99, 1, 64)})

    assert rows(Op("add", ("x", "x"), "y")) == (1 << 21) // (64 * 4)
    assert rows(Op("add", ("x", "u"), "y")) is None
    assert rows(Op("reduce", ("x",), "y", {}, {"axes": [0], "statistic": "mean"})) is None
    assert rows(Op("reduce", ("x",), "y", {}, {"axes": [1], "statistic": "mean"})) is not None
    assert rows(Op("permute", ("x",), "y", {}, {"order": [1, 0]})) is None
    assert rows(Op("reshape", ("x",), "y", {}, {"shape": [-1, 32]})) is None  # two rows of each
