"""What is learned about from a zoo before any training: shapes, groups, and in which way chains of one shape are run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Graph
from nfn_cli.predictors.takes import Takes
from nfn_cli.train import recipes
from nfn_cli.train.recipes import Sources, monomial_encoder, probe_encoder, unit_graph_encoder
from nfn_cli.train.zoo_data import ZooData
from nfn_cli.train.zoo_part import Part
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.population import ConvLayer
from tests.train.made_zoo import MIXED, RELU, TANH, stack
from tests.zoo.making import image_file

SLOW = replace(RELU, layers=(ConvLayer(4, 1), ConvLayer(4, 1)))  # the shapes of RELU, other strides


def data_of(*parts: tuple[Graph, int]) -> ZooData:
    rows = np.cumsum([0, *(count for _, count in parts)])
    total = int(rows[-1])
    made = tuple(
        Part(graph, stack(graph, np.ones(count), np.random.default_rng(0)), np.arange(start, start + count))
        for (graph, count), start in zip(parts, rows, strict=False)
    )
    flags = np.zeros(total, bool)
    names = np.array([str(row) for row in range(total)])
    kinds = np.full(total, "small-cnn")
    return ZooData(made, np.linspace(0, 1, total), names, ~flags, flags, np.zeros(total, int), kinds, "by hand", {})


def takes_of(*parts: tuple[Graph, int]) -> Takes:
    return unit_graph_encoder(data_of(*parts), Sources())[1]


def test_the_graph_of_a_common_chain_is_kept_for_files_of_weights_alone() -> None:
    (chain,) = takes_of((cnn_graph(RELU), 120), (cnn_graph(MIXED), 120)).chains
    assert chain.graph == cnn_graph(RELU)
    assert chain.activation == "relu"
    assert takes_of((cnn_graph(RELU), 99)).chains == ()  # too few stand behind it
    assert len(takes_of((cnn_graph(RELU), 120), (cnn_graph(TANH), 120)).chains) == 2


def test_chains_of_one_shape_that_are_run_in_two_ways_are_not_told_apart_by_a_guess() -> None:
    assert takes_of((cnn_graph(RELU), 120), (cnn_graph(SLOW), 120)).chains == ()
    assert takes_of((cnn_graph(RELU), 120), (cnn_graph(SLOW), 10)).chains == ()
    (chain,) = takes_of((cnn_graph(RELU), 600), (cnn_graph(SLOW), 1)).chains
    assert chain.graph == cnn_graph(RELU)
    (both,) = takes_of((cnn_graph(RELU), 60), (renamed(cnn_graph(RELU)), 60)).chains  # one way under two names
    assert both.graph == cnn_graph(RELU)


def renamed(graph: Graph) -> Graph:
    """The same under other tensor names."""
    ops = tuple(replace(op, parameters={r: f"net.{n}" for r, n in op.parameters.items()}) for op in graph.ops)
    return replace(graph, ops=ops, parameter_shapes={f"net.{n}": s for n, s in graph.parameter_shapes.items()})


def test_a_zoo_that_does_not_tell_strides_teaches_none() -> None:
    graph = cnn_graph(RELU)
    ops = tuple(
        replace(op, attributes={n: v for n, v in op.attributes.items() if n != "stride"}) if op.kind == "conv" else op
        for op in graph.ops
    )
    assert takes_of((replace(graph, ops=ops), 120)).chains == ()


def test_a_probe_predictor_shows_images_of_the_size_that_it_was_given(tmp_path: Path) -> None:
    sources = Sources(image_file(tmp_path / "images"), probes=9)
    encoder, takes = probe_encoder(data_of((cnn_graph(RELU), 3)), sources)
    assert takes.classifiers[0].input_shape == (1, 8, 8)
    assert takes.classifiers[0].outputs == 3
    assert encoder.tensors()["inputs"].shape == (9, 1, 8, 8)
    with pytest.raises(WrongUsage, match="--images"):
        probe_encoder(data_of((cnn_graph(RELU), 3)), Sources())


@pytest.mark.parametrize("make", [unit_graph_encoder, probe_encoder])
def test_networks_for_different_data_are_not_learned_from_together(make: object, tmp_path: Path) -> None:
    images = image_file(tmp_path / "images")
    coloured, four = cnn_graph(replace(RELU, channels=3)), cnn_graph(replace(RELU, classes=4))
    for other, said in ((coloured, "differ in channels: 1, 3"), (four, "differ in numbers of outputs: 3, 4")):
        with pytest.raises(WrongUsage, match=said):
            make(data_of((cnn_graph(RELU), 3), (other, 3)), Sources(images))  # type: ignore[operator]


def test_monomial_nfn_takes_one_shape_and_an_activation_with_a_group() -> None:
    encoder, takes = monomial_encoder(data_of((cnn_graph(TANH), 3)), Sources())
    assert encoder.settings() == {"group": "sign"}
    assert takes.chains[0].widths == (1, 4, 4, 3)
    for parts in (((cnn_graph(TANH), 3), (cnn_graph(RELU), 3)), ((cnn_graph(MIXED), 3),)):
        with pytest.raises(WrongUsage, match="these networks differ"):
            monomial_encoder(data_of(*parts), Sources())
    with pytest.raises(WrongUsage, match="no group of scales or signs for gelu"):
        monomial_encoder(data_of((cnn_graph(replace(RELU, activation="gelu")), 3)), Sources())


def test_every_recipe_has_a_model_and_a_loader() -> None:
    from nfn_cli.predictors.card import MODELS
    from nfn_cli.predictors.kinds.registry import KINDS

    assert set(recipes.RECIPES) == set(MODELS) == set(KINDS)
