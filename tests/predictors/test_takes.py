"""What a predictor takes: each refusal says what differs, what is kept on a card comes back, and nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Op
from nfn_cli.graph.reference import evaluate
from nfn_cli.graph.small_cnn import LayerTensors, small_cnn_graph
from nfn_cli.predictors.chain_input import ChainWeights, chain_of
from nfn_cli.predictors.takes import (
    Chain,
    Classifier,
    Takes,
    as_trained,
    contradicts,
    in_torch_layout,
    output_width,
    takes_from_json,
    without_final_softmax,
)
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.population import Architecture, ConvLayer
from tests.zoo.making import BOTH
from tests.zoo.small_graphs import mlp_graph, random_stack

PLAIN = Architecture(1, 8, 8, 3, (ConvLayer(4, 2), ConvLayer(5, 1)), "relu")
GRAPH = cnn_graph(PLAIN)
CHAIN = Chain("relu", (1, 4, 5, 3), ((3, 3), (3, 3), ()), GRAPH)


def tensors_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    return {name: array[0].astype(np.float64) for name, array in random_stack(graph, 1, seed).items()}


def changed(graph: Graph, kind: str, **attributes: Any) -> Graph:
    """The graph with other attributes on all ops of one kind; None takes an attribute away."""
    ops = []
    for op in graph.ops:
        if op.kind == kind:
            kept = {name: value for name, value in {**op.attributes, **attributes}.items() if value is not None}
            op = replace(op, attributes=kept)
        ops.append(op)
    return replace(graph, ops=tuple(ops))


def weights_of(graph: Graph) -> ChainWeights:
    return chain_of(graph, tensors_of(graph))


def deeper(**more: Any) -> Graph:
    return cnn_graph(replace(PLAIN, layers=(*PLAIN.layers, ConvLayer(5, 1)), **more))


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (deeper(), "it has 4 layers, not 3"),
        (cnn_graph(replace(PLAIN, classes=4)), "layer 3 has shape (4, 5), not (3, 5)"),
        (cnn_graph(replace(PLAIN, channels=2)), "layer 1 has shape (4, 2, 3, 3), not (4, 1, 3, 3)"),
        (cnn_graph(replace(PLAIN, activation="tanh")), "the activation is tanh, not relu"),
    ],
)
def test_another_chain_is_refused_with_what_differs(graph: Graph, said: str) -> None:
    assert said in str(CHAIN.mismatch(weights_of(graph)))
    assert CHAIN.mismatch(weights_of(GRAPH)) is None  # the control


def test_pooling_between_layers_is_refused() -> None:
    pooled = replace(weights_of(GRAPH), pooling_between=("max_pool",))
    assert "it pools between layers (max_pool)" in str(CHAIN.mismatch(pooled))


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (cnn_graph(replace(PLAIN, classes=4)), "it has 4 outputs, not 3"),
        (cnn_graph(replace(PLAIN, channels=2)), "its input is 2 × 8 × 8, not 1 × 8 × 8"),
        (cnn_graph(replace(PLAIN, height=9)), "its input is 1 × 9 × 8, not 1 × 8 × 8"),
        (mlp_graph((3, 5, 3)), "its input is 3, not 1 × 8 × 8"),
        (replace(GRAPH, outputs=("logits", "features")), "it has 1 inputs and 2 outputs, not one of each"),
    ],
)
def test_another_classifier_is_refused_with_what_differs(graph: Graph, said: str) -> None:
    assert Classifier((1, 8, 8), 3, "seen").mismatch(graph) == said


def test_a_classifier_may_have_any_layers_and_leave_its_size_open() -> None:
    classifier = Classifier((1, 8, 8), 3, "seen")
    open_size = replace(GRAPH, inputs=(GraphInput("images", (None, 1, None, None)),))
    wide = cnn_graph(replace(PLAIN, layers=(ConvLayer(16, 1),), activation="gelu", batch_norm=True))
    for graph in (GRAPH, open_size, wide):
        assert classifier.mismatch(graph) is None
    any_size = Classifier((1, None, None), 3, "seen")
    assert any_size.mismatch(cnn_graph(replace(PLAIN, height=9))) is None
    assert any_size.mismatch(cnn_graph(replace(PLAIN, channels=2))) == "its input is 2 × 8 × 8, not 1 × any × any"


def test_a_final_softmax_is_no_part_of_the_logits() -> None:
    softmax = Op("softmax", ("logits",), "p", {}, {"axis": -1})
    graph = replace(GRAPH, ops=(*GRAPH.ops, softmax), outputs=("p",))
    assert without_final_softmax(graph) == GRAPH
    assert output_width(graph) == output_width(GRAPH) == 3
    assert without_final_softmax(GRAPH) is GRAPH
    inner = replace(graph, ops=(*graph.ops, Op("scalar", ("p",), "q", {}, {"multiply": 2.0})), outputs=("q",))
    assert without_final_softmax(inner) is inner
    assert output_width(inner) is None  # what ends otherwise is asked when it is run


def test_takes_come_back_from_json() -> None:
    takes = Takes((CHAIN, replace(CHAIN, graph=None)), (Classifier((1, None, None), 3, "trained on this"),))
    text = json.dumps(takes.to_json())
    assert takes_from_json(json.loads(text)).to_json() == takes.to_json()
    back = takes_from_json(json.loads(text))
    assert str(back) == str(takes)
    assert back.chains[1] == takes.chains[1]
    assert back.chains[0].graph == CHAIN.graph
    assert back.classifiers == takes.classifiers


@pytest.mark.parametrize(
    "values",
    [{}, {"chains": [{}], "classifiers": []}, {"chains": [], "classifiers": [{"input_shape": 3}]}, {"chains": 1}],
)
def test_what_is_not_takes_is_an_error_that_the_card_reader_knows(values: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        takes_from_json(values)


def test_the_chain_that_fits_is_found_among_several_and_the_nearest_one_speaks_where_none_does() -> None:
    tanh = replace(CHAIN, activation="tanh")
    takes = Takes((tanh, CHAIN))
    assert takes.accepted_chain(GRAPH, tensors_of(GRAPH))[0] is CHAIN
    with pytest.raises(Refused, match="it has 4 layers, not 3") as caught:
        takes.accepted_chain(deeper(), tensors_of(deeper()))
    assert "activation relu" in str(caught.value)
    assert caught.value.code == "predictor-mismatch"


def test_where_no_chain_is_taken_every_chain_is_refused() -> None:
    with pytest.raises(Refused, match="no chain was among") as caught:
        Takes(classifiers=(Classifier((1, 8, 8), 3, "seen"),)).accepted_chain(GRAPH, tensors_of(GRAPH))
    assert caught.value.code == "predictor-mismatch"


def test_weights_alone_are_completed_and_what_a_graph_does_tell_is_kept_to() -> None:
    takes = Takes((CHAIN,))
    silent = changed(GRAPH, "conv", stride=None, padding=None)
    graph, tensors = takes.completed(silent, tensors_of(GRAPH))
    assert graph is GRAPH
    assert all(np.array_equal(array, tensors_of(GRAPH)[name]) for name, array in tensors.items())
    with pytest.raises(Refused, match="convolution 1 has padding 0, not 1"):
        takes.completed(changed(silent, "conv", padding=0), tensors_of(GRAPH))


def keras_chain(pixels: int) -> Graph:
    """Two convolutions and a linear layer as Keras keeps them: (h, w, in, out); `pixels` > 1 are flattened channels last."""
    layers = [
        LayerTensors("a/kernel", "a/bias", (3, 3, 1, 4), 3, 2),
        LayerTensors("b/kernel", "b/bias", (3, 3, 4, 5), 3, 2),
        LayerTensors("c/kernel", "c/bias", (5 * pixels, 3), 1, 0),
    ]
    return small_cnn_graph(layers, "relu", stride=2, padding=1)


@pytest.mark.parametrize("pixels", [1, 4])
def test_a_file_of_weights_alone_runs_as_the_training_networks_of_its_shape_did(pixels: int) -> None:
    """Whatever layout those had: the function is that of the same weights under the training networks' own graph."""
    own = keras_chain(pixels)
    tensors = tensors_of(own)
    weights = chain_of(own, tensors)
    graph, named = as_trained(Chain("relu", (1, 4, 5, 3), ((3, 3), (3, 3), ()), in_torch_layout(own)), weights)
    assert {name: array.shape for name, array in named.items()} == dict(graph.parameter_shapes)
    images = np.random.default_rng(0).standard_normal((2, 1, 8, 8))
    (here,) = evaluate(graph, named, {"x0": images})
    (there,) = evaluate(own, tensors, {"x0": images})
    np.testing.assert_allclose(here, there, rtol=1e-12)
    # the control: other strides, or the pixels in another order, are another function
    other = changed(graph, "conv", stride=1) if pixels == 1 else changed(graph, "flatten", order="channel_inner")
    assert np.abs(evaluate(other, named, {"x0": images})[0] - here).max() > 1e-3


def test_a_bias_that_the_training_networks_did_not_have_is_refused_unless_it_is_zero() -> None:
    ops = tuple(replace(op, parameters={n: t for n, t in op.parameters.items() if n != "bias"}) for op in GRAPH.ops)
    without = replace(CHAIN, graph=replace(GRAPH, ops=ops))
    weights = weights_of(GRAPH)
    with pytest.raises(Refused, match="layer 1 has a bias"):
        as_trained(without, weights)
    zero = replace(weights, biases=tuple(np.zeros_like(bias) for bias in weights.biases))
    assert set(as_trained(without, zero)[1]) == {"convs.0.weight", "convs.1.weight", "head.weight"}


@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        ("conv", {"stride": 1}, "convolution 1 has stride 1, not 2"),
        ("conv", {"stride": (1, 2)}, "convolution 1 has stride (1, 2), not 2"),
        ("conv", {"padding": 0}, "convolution 1 has padding 0, not 1"),
        ("conv", {"dilation": [2, 2]}, "convolution 1 has dilation 2, not 1"),
        ("pointwise", {"slope": 0.2}, "activation 1 has slope 0.2, not 0.01"),
    ],
)
def test_what_a_graph_does_tell_must_agree(kind: str, attributes: dict[str, Any], said: str) -> None:
    assert contradicts(CHAIN, changed(GRAPH, kind, **attributes)) == said


def test_what_a_graph_does_not_tell_or_tells_in_other_words_contradicts_nothing() -> None:
    silent = changed(GRAPH, "conv", stride=None, padding=None, dilation=None)
    assert contradicts(CHAIN, silent) is None
    assert contradicts(CHAIN, changed(GRAPH, "conv", padding=[1, 1])) is None
    assert contradicts(CHAIN, GRAPH) is None


def test_a_network_with_branches_is_no_chain() -> None:
    graph = cnn_graph(BOTH)
    with pytest.raises(Refused) as caught:
        Takes((CHAIN,)).accepted_chain(graph, tensors_of(graph))
    assert caught.value.code == "not-a-plain-chain"
