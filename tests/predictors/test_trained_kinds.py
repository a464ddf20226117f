"""Predictors of each kind, trained on tiny zoos of two architectures and asked by file, by row and in company."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli.api import Model, open_model, predict_generalization, predict_many
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError, Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.graph.stored_graph import network_of
from nfn_cli.predictors import Prediction, load_predictor
from nfn_cli.predictors.predictor import write_predictor
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.generalization import GeneralizationConfig, train_predictor
from nfn_cli.train.orbit import OrbitMove, moved
from nfn_cli.train.zoo_data import load_zoos
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.population import Architecture, ConvLayer
from tests.train.made_zoo import MIXED, RELU, TANH, stack, write_made_zoo
from tests.zoo.making import image_file

KINDS = ("probe", "unit-graph")
# of the first shard, so many networks that files of weights alone are run as these were
RUNS = {"probe": 52, "unit-graph": 20}
UNSEEN = Architecture(1, 8, 8, 3, (ConvLayer(9, 1), ConvLayer(5, 2), ConvLayer(7, 1)), "tanh", residual=True)
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zoos and images, and a predictor of each kind beside them."""
    folder = tmp_path_factory.mktemp("made")
    image_file(folder / "images")
    for kind in KINDS:
        write_made_zoo(folder / f"zoo-{kind}", RELU, MIXED, runs=RUNS[kind])
        write_predictor(folder / kind, *trained(folder, kind))
    return folder


def trained(folder: Path, kind: str) -> Any:
    config = GeneralizationConfig(kind, images=folder / "images", probes=30, epochs=2, folds=2, test_fraction=0.3)
    return train_predictor([folder / f"zoo-{kind}"], config, kind, "nfn train …")


def model_of(graph: Graph, tensors: Mapping[str, np.ndarray], path: str = "by-hand") -> Model:
    checkpoint = Checkpoint(path=path, container="safetensors", tensors=MappingProxyType(dict(tensors)))
    return Model(checkpoint, (network_of(graph),))


def network_like(architecture: Architecture, seed: int = 0) -> Model:
    graph = cnn_graph(architecture)
    made = stack(graph, np.array([0.8]), np.random.default_rng(seed))
    return model_of(graph, {name: array[0] for name, array in made.items()})


def asked(made: Path, kind: str, model: Any) -> Prediction:
    return predict_generalization(model, predictor=str(made / kind))


def refusal(made: Path, kind: str, model: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        asked(made, kind, model)
    return caught.value


def numbers(answer: Prediction | NfnError) -> list[float]:
    assert isinstance(answer, Prediction)
    return [answer.predicted_test_accuracy, *answer.interval, float(answer.in_distribution)]


@each_kind
def test_two_trainings_give_the_same_bytes(made: Path, kind: str, tmp_path: Path) -> None:
    write_predictor(tmp_path, *trained(made, kind))
    for file in ("weights.safetensors", "card.json", "README.md"):
        assert (tmp_path / file).read_bytes() == (made / kind / file).read_bytes()


@each_kind
def test_a_row_of_a_zoo_is_asked_by_its_number(made: Path, kind: str) -> None:
    predictor, data = load_predictor(str(made / kind)), load_zoos([made / f"zoo-{kind}"])
    for part in data.parts:
        graph, _ = predictor.accept(part.graph, {name: array[0] for name, array in part.tensors.items()})
        together = predictor.predict_stacked(graph, part.tensors)
        for place in (0, 7):
            alone = asked(made, kind, f"{made}/zoo-{kind}#{part.rows[place]}")
            assert numbers(alone) == pytest.approx(numbers(together[place]), abs=1e-9)
        assert numbers(together[0]) != pytest.approx(numbers(together[7]), abs=1e-6)  # the control


@each_kind
@pytest.mark.parametrize("architecture", [RELU, MIXED, UNSEEN], ids=["chain", "residual", "unseen"])
def test_no_element_of_the_group_moves_an_answer(made: Path, kind: str, architecture: Architecture) -> None:
    graph, predictor = cnn_graph(architecture), load_predictor(str(made / kind))
    tensors = {
        name: array.astype(np.float64)
        for name, array in stack(graph, np.linspace(0.3, 1.5, 5), np.random.default_rng(3)).items()
    }
    symmetry = find_symmetry([network_of(graph)])
    here = predictor.predict_stacked(graph, tensors)
    for seed in range(3):
        there = predictor.predict_stacked(
            graph, moved(graph, symmetry, tensors, OrbitMove("all", 64.0), seed, np.float64)
        )
        for a, b in zip(here, there, strict=True):
            assert numbers(a) == pytest.approx(numbers(b), abs=1e-9)
    off = predictor.predict_stacked(graph, tensors | {"convs.1.weight": 1.7 * tensors["convs.1.weight"]})
    assert (
        max(abs(a.predicted_test_accuracy - b.predicted_test_accuracy) for a, b in zip(here, off, strict=True)) > 1e-5
    )


@each_kind
def test_company_of_other_architectures_does_not_show_and_refusals_stand_in_their_place(made: Path, kind: str) -> None:
    models = [network_like(each, seed) for seed, each in enumerate((RELU, MIXED, UNSEEN, TANH, RELU, UNSEEN))]
    models.insert(2, network_like(replace(RELU, classes=4)))
    together = predict_many(models, predictor=str(made / kind))
    assert isinstance(together[2], Refused)
    assert "it has 4 outputs, not 3" in together[2].what
    for model, answer in zip(models[:2] + models[3:], together[:2] + together[3:], strict=True):
        assert numbers(asked(made, kind, model)) == pytest.approx(numbers(answer), abs=1e-9)


@each_kind
@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (replace(RELU, classes=4), "it has 4 outputs, not 3"),
        (replace(RELU, channels=3), "its input is 3 × 8 × 8, not 1 × "),
    ],
)
def test_other_inputs_and_outputs_are_refused(made: Path, kind: str, architecture: Architecture, said: str) -> None:
    error = refusal(made, kind, network_like(architecture))
    assert said in error.what
    assert error.code == "predictor-mismatch"


def test_images_of_another_size_are_refused_by_what_shows_images_alone(made: Path) -> None:
    larger = network_like(replace(RELU, height=9))
    assert "its input is 1 × 9 × 8, not 1 × 8 × 8" in refusal(made, "probe", larger).what
    assert asked(made, "unit-graph", larger).predictor == "unit-graph"


def test_what_shows_only_when_a_network_is_run_is_refused_for_it_alone(made: Path) -> None:
    """The graph ends in an op that does not tell how many outputs there are."""
    wide = network_like(replace(RELU, classes=4))
    graph = wide.networks[0].graph
    graph = replace(graph, ops=(*graph.ops, Op("scalar", ("logits",), "y", {}, {"multiply": 2.0})), outputs=("y",))
    late = model_of(graph, wide.checkpoint.tensors)
    first, second = predict_many([late, network_like(RELU)], predictor=str(made / "probe"))
    assert isinstance(first, Refused)
    assert "it answers with (4,) numbers, not 3" in first.what
    assert isinstance(second, Prediction)


@pytest.fixture
def plain_file(made: Path, tmp_path: Path) -> Path:
    """Row 3 of the zoo as a state dict under other names, which tells neither strides nor paddings."""
    row = open_model(f"{made}/zoo-probe#3").checkpoint.tensors
    names = {"convs.0": "features.0", "convs.1": "features.2", "head": "classifier"}
    tensors = {f"{names[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": np.asarray(t) for n, t in row.items()}
    save_file(tensors, tmp_path / "plain.safetensors", {"activation": "relu"})
    return tmp_path / "plain.safetensors"


def test_a_file_of_weights_alone_is_run_as_the_training_networks_of_its_shape_were(
    made: Path, plain_file: Path
) -> None:
    assert len(load_predictor(str(made / "probe")).card.taken.chains) == 1
    by_row = asked(made, "probe", f"{made}/zoo-probe#3")
    assert numbers(asked(made, "probe", str(plain_file))) == pytest.approx(numbers(by_row), abs=1e-9)
    # the control: run otherwise, the same weights get another answer
    slow = replace(RELU, layers=(ConvLayer(4, 1), ConvLayer(4, 1)))
    otherwise = model_of(cnn_graph(slow), open_model(f"{made}/zoo-probe#3").checkpoint.tensors)
    assert numbers(asked(made, "probe", otherwise)) != pytest.approx(numbers(by_row), abs=1e-6)


def test_a_graph_that_tells_other_strides_but_not_all_is_refused(made: Path, plain_file: Path) -> None:
    model = open_model(str(plain_file))
    (network,) = model.networks

    def told(**attributes: object) -> Model:
        ops = tuple(
            replace(op, attributes={**op.attributes, **attributes}) if op.kind == "conv" else op
            for op in network.graph.ops
        )
        return replace(model, networks=(replace(network, graph=replace(network.graph, ops=ops)),))

    assert refusal(made, "probe", told(stride=1)).what == "convolution 1 has stride 1, not 2"
    assert refusal(made, "probe", told(padding=0)).what == "convolution 1 has padding 0, not 1"
    # the control: convolutions that do tell the strides of the training networks, as far as they go
    first = replace(network.graph.ops[0], attributes={**network.graph.ops[0].attributes, "stride": [2, 2]})
    agrees = replace(network.graph, ops=(first, *network.graph.ops[1:]))
    assert asked(made, "probe", replace(model, networks=(replace(network, graph=agrees),))).predictor == "probe"


def test_weights_alone_of_another_shape_are_not_guessed_at(made: Path, tmp_path: Path) -> None:
    wide = network_like(replace(RELU, layers=(ConvLayer(5, 2), ConvLayer(4, 1)))).checkpoint.tensors
    names = {"convs.0": "conv1", "convs.1": "conv2", "head": "fc"}
    tensors = {f"{names[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": t for n, t in wide.items()}
    save_file(tensors, tmp_path / "wide.safetensors", {"activation": "relu"})
    error = refusal(made, "probe", str(tmp_path / "wide.safetensors"))
    assert error.code == "unknown-function"
    assert "the stride of conv1 is not in the file" in error.what
    assert asked(made, "unit-graph", str(tmp_path / "wide.safetensors")).predictor == "unit-graph"


def test_a_final_softmax_does_not_change_what_is_read(made: Path) -> None:
    model = network_like(RELU)
    graph = model.networks[0].graph
    softmax = Op("softmax", ("logits",), "p", {}, {"axis": -1})
    ended = model_of(replace(graph, ops=(*graph.ops, softmax), outputs=("p",)), model.checkpoint.tensors)
    assert numbers(asked(made, "probe", ended)) == pytest.approx(numbers(asked(made, "probe", model)), abs=1e-12)
