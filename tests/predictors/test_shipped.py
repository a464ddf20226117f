"""The shipped predictors: blind to the orbit, true to their cards, and covering what they promise on held-out runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.networks.monomial_nfn import parameter_count
from nfn_cli.predictors import load_predictor, predict_generalization, shipped_predictors
from nfn_cli.predictors.predictor import Prediction
from nfn_cli.predictors.shipped import predictor_folder
from nfn_cli.train.generalization import default_config, load_tensors
from nfn_cli.train.metrics import coverage, scores
from nfn_cli.zoo import split_of_run
from tests.predictors.networks_by_hand import (
    ACTIVATIONS,
    EXAMPLES,
    LAYERS,
    SHARED_ZOO,
    checkpoint,
    example,
    moved_on_orbit,
    network,
    random_tensors,
)

GROUPS = {"relu": "positive_scale", "tanh": "sign"}
needs_zoo = pytest.mark.skipif(not SHARED_ZOO.is_dir(), reason=f"the zoo of CNNs is not at {SHARED_ZOO}")


def predicted(tensors: dict[str, np.ndarray], activation: str) -> Prediction:
    return predict_generalization(checkpoint(tensors), (network(tensors, activation),))


def name_of(activation: str) -> str:
    return f"generalization-cifar10gs-{activation}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_answer_is_the_same_for_every_member_of_the_orbit(activation: str, seed: int) -> None:
    # the trained example, and networks far from anything trained
    tensors = example(activation) if seed % 2 else random_tensors(seed, level=float(10.0 ** (seed % 5 - 3)))
    here = predicted(tensors, activation)
    there = predicted(moved_on_orbit(tensors, GROUPS[activation], seed), activation)
    assert abs(here.predicted_test_accuracy - there.predicted_test_accuracy) < 1e-4
    assert np.abs(np.subtract(here.interval, there.interval)).max() < 1e-4
    assert here.in_distribution == there.in_distribution


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_answer_moves_with_weights_off_the_orbit(activation: str) -> None:
    tensors = example(activation)
    here = predicted(tensors, activation)
    changed = tensors | {"conv2.weight": tensors["conv2.weight"] * np.float32(4.0)}
    assert abs(predicted(changed, activation).predicted_test_accuracy - here.predicted_test_accuracy) > 1e-3
    other = {"relu": "sign", "tanh": "positive_scale"}[activation]
    moved = moved_on_orbit(tensors, other, seed=0, largest=3.0)
    assert abs(predicted(moved, activation).predicted_test_accuracy - here.predicted_test_accuracy) > 1e-3


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dead", ["in", "out", "both", "layer"])
def test_dead_units_leave_the_answer_finite_and_the_same_on_the_orbit(activation: str, dead: str) -> None:
    tensors = example(activation)
    units = slice(None) if dead == "layer" else slice(0, 5)
    if dead != "out":
        tensors["conv2.weight"][units] = 0.0
        tensors["conv2.bias"][units] = 0.0
    if dead in ("out", "both"):
        tensors["conv3.weight"][:, units] = 0.0
    here = predicted(tensors, activation)
    assert np.isfinite([here.predicted_test_accuracy, *here.interval]).all()
    for seed in range(3):
        there = predicted(moved_on_orbit(tensors, GROUPS[activation], seed), activation)
        assert abs(here.predicted_test_accuracy - there.predicted_test_accuracy) < 1e-4


def test_units_that_training_let_die_away_do_not_upset_the_balanced_form() -> None:
    # weight decay drives a dying unit to 1e-20 and below, where its own scale is next to nothing in float32
    tensors = example("relu")
    for tiny in (1e-10, 1e-18, 1e-30):
        shrunk = {name: t.copy() for name, t in tensors.items()}
        shrunk["conv2.weight"][:4] *= np.float32(tiny)
        shrunk["conv2.bias"][:4] *= np.float32(tiny)
        shrunk["conv3.weight"][:, :4] *= np.float32(tiny)
        here = predicted(shrunk, "relu")
        for seed in range(3):
            there = predicted(moved_on_orbit(shrunk, "positive_scale", seed), "relu")
            assert abs(here.predicted_test_accuracy - there.predicted_test_accuracy) < 1e-4


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_trained_is_inside_and_untrained_is_outside(activation: str) -> None:
    tensors = example(activation)
    assert predicted(tensors, activation).in_distribution
    rng = np.random.default_rng(0)
    shuffled = {n: rng.permutation(t.reshape(-1)).reshape(t.shape) for n, t in tensors.items()}
    assert not predicted(shuffled, activation).in_distribution
    assert not predicted(random_tensors(0, level=30.0), activation).in_distribution


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_card_is_true_to_the_file(activation: str) -> None:
    predictor = load_predictor(name_of(activation))
    card, folder = predictor.card, predictor_folder(name_of(activation))
    assert card.name == name_of(activation)
    assert card.activation == activation
    assert card.group == GROUPS[activation]
    assert card.parameters == sum(parameter_count(member) for member in predictor.members)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    assert {"kendall_tau", "r2", "mae", "count"} == set(card.test)
    assert card.split["folds"] == default_config(activation).folds == card.members
    assert card.split["test_fraction"] == default_config(activation).test_fraction
    assert f"--activation {activation} --out models/{card.name}" in card.reproduce
    readme = (folder / "README.md").read_text()
    assert f"{card.test['kendall_tau']:.3f}" in readme
    assert f"{card.parameters:,}" in readme
    assert card.reproduce in readme


def test_every_shipped_folder_has_a_card_with_its_name() -> None:
    assert {card.name for card in shipped_predictors()} >= {name_of(a) for a in ACTIVATIONS}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_example_is_a_test_run_and_its_true_accuracy_is_in_the_interval(activation: str) -> None:
    from safetensors import safe_open

    with safe_open(EXAMPLES / f"cifar10gs-{activation}.safetensors", "np") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert names == {f"{layer}.{role}" for layer in LAYERS for role in ("weight", "bias")}
    assert metadata["activation"] == activation
    split = load_predictor(name_of(activation)).card.split
    assert split_of_run([metadata["run"]], split["test_fraction"], split["seed"])[0]
    low, high = predicted(example(activation), activation).interval
    assert low <= float(metadata["test_accuracy"]) <= high


@needs_zoo
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_on_held_out_runs_the_card_holds_and_the_interval_covers(activation: str) -> None:
    predictor = load_predictor(name_of(activation))
    data = load_tensors(SHARED_ZOO, default_config(activation))
    runs = data.zoo.runs
    assert not set(runs[data.test].tolist()) & set(runs[~data.test].tolist())
    every = np.nonzero(data.test)[0]
    low, high = np.array([a.interval for a in predictor.predict_features(data.raw[torch.from_numpy(every)])]).T
    assert coverage(low, high, data.target[every]) > 0.9 - 3 * np.sqrt(0.09 / len(set(runs[every].tolist())))
    rows = np.nonzero(data.test & data.final)[0]
    answers = predictor.predict_features(data.raw[torch.from_numpy(rows)])
    guess = np.array([a.predicted_test_accuracy for a in answers])
    low, high = np.array([a.interval for a in answers]).T
    actual = data.target[rows]
    measured = scores(guess, actual)
    assert measured.kendall_tau == pytest.approx(predictor.card.test["kendall_tau"], abs=2e-3)
    assert measured.r2 == pytest.approx(predictor.card.test["r2"], abs=1e-3)
    assert measured.kendall_tau > 0.8
    # 0.9 is promised; with this many runs, three standard deviations of a fair count
    slack = 3 * np.sqrt(0.09 / len(rows))
    assert coverage(low, high, actual) > 0.9 - slack
    middle = (low + high) / 2
    assert coverage(middle - (high - low) / 20, middle + (high - low) / 20, actual) < 0.5  # a tenth as wide must fail


@needs_zoo
def test_no_zoo_row_changes_its_answer_on_the_orbit() -> None:
    predictor = load_predictor(name_of("relu"))
    data = load_tensors(SHARED_ZOO, default_config("relu"))
    rows = torch.arange(0, len(data.target), 7)
    raw = data.raw[rows]
    rng = np.random.default_rng(0)
    scales = [torch.from_numpy(np.exp(rng.uniform(-6.9, 6.9, (len(rows), 16)))) for _ in range(3)]
    from nfn_cli.networks.balance import scaled

    moved = scaled(raw.map(lambda t: t.double()), [s.log() for s in scales]).map(lambda t: t.float())
    here, there = predictor.predict_features(raw), predictor.predict_features(moved)
    worst = max(abs(a.predicted_test_accuracy - b.predicted_test_accuracy) for a, b in zip(here, there, strict=True))
    assert worst < 1e-4
    assert [a.in_distribution for a in here] == [b.in_distribution for b in there]


def test_models_are_found_beside_the_package() -> None:
    assert Path(predictor_folder(name_of("relu"))).name == name_of("relu")
