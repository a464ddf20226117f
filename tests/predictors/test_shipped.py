"""Every shipped predictor: blind to the orbit, true to its card, and covering what it promises on held-out runs.

What is tested is found in the folder of shipped predictors, so that a new one is under test as soon as it is there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.api import Model, open_model
from nfn_cli.errors import Refused
from nfn_cli.predictors import Card, Prediction, load_predictor, predict_generalization, shipped_predictors
from nfn_cli.predictors.card import MODELS, readme
from nfn_cli.predictors.shipped import predictor_folder
from nfn_cli.train.evaluation import evaluate
from nfn_cli.train.generalization import encoded_rows
from nfn_cli.train.metrics import coverage, scores
from nfn_cli.train.zoo_data import ZooData, load_zoos
from nfn_cli.zoo import split_of_run
from tests.predictors.networks_by_hand import ACTIVATIONS, EXAMPLES, LAYERS, example, moved_on_orbit, random_tensors
from tests.shared_data import shared_data

CARDS = {card.name: card for card in shipped_predictors()}
GROUPS = {"relu": "positive_scale", "tanh": "sign"}


def opened(activation: str) -> Model:
    return open_model(str(EXAMPLES / f"cifar10gs-{activation}.safetensors"))


def takes(name: str, activation: str) -> bool:
    model = opened(activation)
    try:
        load_predictor(name).accept(model.networks[0].graph, model.checkpoint.tensors)
    except Refused:
        return False
    return True


TAKEN = [(name, activation) for name in CARDS for activation in ACTIVATIONS if takes(name, activation)]
every_predictor = pytest.mark.parametrize("name", list(CARDS))
every_example = pytest.mark.parametrize(("name", "activation"), TAKEN)


def predicted(name: str, tensors: dict[str, np.ndarray], activation: str) -> Prediction:
    """The answer about the example with other weights in it."""
    model = opened(activation)
    checkpoint = replace(model.checkpoint, tensors=MappingProxyType(dict(tensors)))
    return predict_generalization(checkpoint, model.networks, name)


def change(a: Prediction, b: Prediction) -> float:
    numbers = ([x.predicted_test_accuracy, *x.interval] for x in (a, b))
    return float(np.abs(np.subtract(*numbers)).max())


@every_predictor
def test_a_predictor_takes_at_least_one_of_the_examples(name: str) -> None:
    assert name in {taken for taken, _ in TAKEN}


@every_example
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_the_answer_is_the_same_for_every_member_of_the_orbit(name: str, activation: str, seed: int) -> None:
    # the trained example, and networks far from anything trained
    tensors = example(activation) if seed % 2 else random_tensors(seed, level=float(10.0 ** (seed % 5 - 3)))
    here = predicted(name, tensors, activation)
    there = predicted(name, moved_on_orbit(tensors, GROUPS[activation], seed), activation)
    assert change(here, there) < 1e-4
    assert here.in_distribution == there.in_distribution


@every_example
def test_the_answer_moves_with_weights_off_the_orbit(name: str, activation: str) -> None:
    tensors = example(activation)
    here = predicted(name, tensors, activation)
    changed = tensors | {"conv2.weight": tensors["conv2.weight"] * np.float32(4.0)}
    assert abs(predicted(name, changed, activation).predicted_test_accuracy - here.predicted_test_accuracy) > 1e-3
    other = {"relu": "sign", "tanh": "positive_scale"}[activation]
    moved = moved_on_orbit(tensors, other, seed=0, largest=3.0)
    assert abs(predicted(name, moved, activation).predicted_test_accuracy - here.predicted_test_accuracy) > 1e-3


@every_example
@pytest.mark.parametrize("dead", ["in", "out", "both", "layer"])
def test_dead_units_leave_the_answer_finite_and_the_same_on_the_orbit(name: str, activation: str, dead: str) -> None:
    tensors = example(activation)
    units = slice(None) if dead == "layer" else slice(0, 5)
    if dead != "out":
        tensors["conv2.weight"][units] = 0.0
        tensors["conv2.bias"][units] = 0.0
    if dead in ("out", "both"):
        tensors["conv3.weight"][:, units] = 0.0
    here = predicted(name, tensors, activation)
    assert np.isfinite([here.predicted_test_accuracy, *here.interval]).all()
    for seed in range(2):
        assert change(here, predicted(name, moved_on_orbit(tensors, GROUPS[activation], seed), activation)) < 1e-4


@pytest.mark.parametrize("name", [name for name, activation in TAKEN if activation == "relu"])
def test_units_that_training_let_die_away_do_not_upset_the_answer(name: str) -> None:
    # weight decay drives a dying unit to 1e-20 and below, where its own scale is next to nothing in float32
    tensors = example("relu")
    for tiny in (1e-10, 1e-18, 1e-30):
        shrunk = {tensor: t.copy() for tensor, t in tensors.items()}
        shrunk["conv2.weight"][:4] *= np.float32(tiny)
        shrunk["conv2.bias"][:4] *= np.float32(tiny)
        shrunk["conv3.weight"][:, :4] *= np.float32(tiny)
        here = predicted(name, shrunk, "relu")
        for seed in range(2):
            assert change(here, predicted(name, moved_on_orbit(shrunk, "positive_scale", seed), "relu")) < 1e-4


@every_example
def test_trained_is_inside_and_untrained_is_outside(name: str, activation: str) -> None:
    tensors = example(activation)
    assert predicted(name, tensors, activation).in_distribution
    rng = np.random.default_rng(0)
    shuffled = {n: rng.permutation(t.reshape(-1)).reshape(t.shape) for n, t in tensors.items()}
    assert not predicted(name, shuffled, activation).in_distribution
    assert not predicted(name, random_tensors(0, level=30.0), activation).in_distribution


@every_example
def test_a_file_that_tells_less_gets_the_answer_of_the_same_network_in_its_zoo(name: str, activation: str) -> None:
    model = opened(activation)
    assert "stride" not in model.networks[0].graph.ops[0].attributes
    row = int(model.checkpoint.metadata["row"])
    there = open_model(f"{shared_data('cnn_zoo_cifar10gs')}#{row}")
    assert "stride" in there.networks[0].graph.ops[0].attributes
    here = predict_generalization(model.checkpoint, model.networks, name)
    in_zoo = predict_generalization(there.checkpoint, there.networks, name)
    assert change(here, in_zoo) < 1e-9
    assert here.in_distribution == in_zoo.in_distribution


@every_predictor
def test_the_card_is_true_to_the_files(name: str) -> None:
    predictor, folder = load_predictor(name), predictor_folder(name)
    card = predictor.card
    assert card.name == name == folder.name
    assert card.model in MODELS
    learned = sum(p.numel() for member in predictor.members for p in member.parameters())
    learned += sum(t.numel() for t in predictor.encoder.tensors().values() if t.is_floating_point())
    assert card.parameters == learned
    assert {path.name for path in folder.iterdir()} == {"README.md", "card.json", "weights.safetensors"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    assert len(predictor.members) == card.members == card.split["folds"] == len(card.training["seeds"])
    assert f"--model {card.model} " in card.reproduce
    assert card.reproduce.endswith(f"-o models/{name}")
    assert (folder / "README.md").read_text() == readme(card)
    assert (folder / "card.json").read_text() == card.to_json()


@every_predictor
def test_figures_on_the_card_are_what_it_promises(name: str) -> None:
    card = CARDS[name]
    for figures in (card.test, card.out_of_fold):
        assert {"kendall_tau", "r2", "mae", "count"} == set(figures)
        assert figures["kendall_tau"] > 0.75
    # a run whose last checkpoint is not finite has no score; one that probes were learned from calibrates nothing
    assert 0.4 * card.data["runs"]["train"] < card.out_of_fold["count"] <= card.data["runs"]["train"]
    assert 0.9 * card.data["runs"]["test"] < card.test["count"] <= card.data["runs"]["test"]
    assert card.interval["level"] == 0.9
    # three standard deviations of a fair count
    assert abs(card.measured["coverage"] - 0.9) < 3 * np.sqrt(0.09 / card.test["count"])
    assert card.measured["alarm_on_test"] < 0.05 + 3 * np.sqrt(0.05 / card.test["count"])
    for kind in ("reinitialised", "shuffled"):
        assert card.measured[f"alarm_on_{kind}"] > 0.8


@every_example
def test_the_example_is_a_test_run_and_its_true_accuracy_is_in_the_interval(name: str, activation: str) -> None:
    from safetensors import safe_open

    with safe_open(EXAMPLES / f"cifar10gs-{activation}.safetensors", "np") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert names == {f"{layer}.{role}" for layer in LAYERS for role in ("weight", "bias")}
    assert metadata["activation"] == activation
    split = CARDS[name].split
    assert split_of_run([metadata["run"]], split["test_fraction"], split["seed"])[0]
    low, high = predicted(name, example(activation), activation).interval
    assert low <= float(metadata["test_accuracy"]) <= high


def shared_zoo(card: Card) -> ZooData:
    """The shared zoo with the card's own split, as far as the predictor takes it."""
    chains = card.taken.chains
    one = chains[0].activation if len(chains) == 1 and not card.taken.classifiers else None
    split = card.split
    return load_zoos(
        [shared_data("cnn_zoo_cifar10gs")],
        activation=one,
        test_fraction=split["test_fraction"],
        folds=split["folds"],
        seed=split["seed"],
    )


@every_predictor
def test_on_held_out_runs_of_the_shared_zoo_the_card_holds_and_the_interval_covers(name: str) -> None:
    predictor = load_predictor(name)
    card, data = predictor.card, shared_zoo(predictor.card)
    assert not set(data.runs[data.test].tolist()) & set(data.runs[~data.test].tolist())
    exactly_these = card.data["rows"] == len(data)  # the card is about just these rows
    held_out = data.where(data.test & data.final & (exactly_these | (np.arange(len(data)) % 4 < 2)))
    actual, predicted_level = held_out.target, predictor.scores(encoded_rows(predictor.encoder, held_out))
    measured = scores(predicted_level, actual)
    assert measured.kendall_tau > 0.8
    low, high = predictor.interval.around(predicted_level)
    # 0.9 is promised; with this many runs, three standard deviations of a fair count
    assert coverage(low, high, actual) > 0.9 - 3 * np.sqrt(0.09 / len(held_out))
    if exactly_these:
        assert measured.kendall_tau == pytest.approx(card.test["kendall_tau"], abs=2e-3)
        assert measured.r2 == pytest.approx(card.test["r2"], abs=1e-3)
        assert coverage(low, high, actual) == pytest.approx(card.measured["coverage"], abs=1e-6)
    middle, tenth = (low + high) / 2, (high - low) / 20
    assert coverage(middle - tenth, middle + tenth, actual) < 0.5  # a tenth as wide must fail


@every_predictor
def test_no_row_of_the_shared_zoo_changes_its_answer_on_the_orbit(name: str) -> None:
    predictor = load_predictor(name)
    data = shared_zoo(predictor.card)
    results, _ = evaluate(predictor, data.where(np.arange(len(data)) % (len(data) // 12) == 0), with_moves=True)
    kinds = {result.move.kind for result in results}
    assert {"untouched", "permutation"} < kinds
    assert kinds & {"uniform-scale", "sign"}
    for result in results:
        # moved weights are rounded to float32, so a network may leave its orbit by that much
        assert result.largest_change < 1e-4, result.move
        assert result.in_distribution == results[0].in_distribution, result.move


def test_models_are_found_beside_the_package() -> None:
    assert Path(predictor_folder("generalization-cifar10gs-relu")).name == "generalization-cifar10gs-relu"
    assert set(CARDS) >= {f"generalization-cifar10gs-{activation}" for activation in ACTIVATIONS}
