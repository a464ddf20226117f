"""From a zoo to a folder that predicts: nothing of a run is on two sides, and the card says what is in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.errors import WrongUsage
from nfn_cli.networks.monomial_nfn import parameter_count
from nfn_cli.predictors import load_predictor
from nfn_cli.predictors.card import readme
from nfn_cli.predictors.predictor import write_predictor
from nfn_cli.train import generalization
from nfn_cli.train.example import example_row, torch_layout
from nfn_cli.train.generalization import (
    Encoded,
    GeneralizationConfig,
    encode_zoo,
    train_in_distribution,
    train_members,
    train_predictor,
)
from nfn_cli.train.zoo_data import ZooData, load_zoos
from tests.zoo.tiny_zoo import write_zoo

RUNS = 60


def quick(activation: str = "relu", **more: Any) -> GeneralizationConfig:
    return GeneralizationConfig("monomial-nfn", activation, **{"epochs": 2, "folds": 3, "test_fraction": 0.2, **more})


def loaded(zoo: Path, config: GeneralizationConfig) -> ZooData:
    return load_zoos(
        [zoo],
        activation=config.activation,
        test_fraction=config.test_fraction,
        folds=config.folds,
        seed=config.seed,
    )


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    write_zoo(folder, runs=RUNS)
    return folder


@pytest.fixture(scope="module")
def encoded(zoo: Path) -> Encoded:
    return encode_zoo(loaded(zoo, quick()), quick())


@pytest.fixture(scope="module")
def trained(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_predictor(folder, *train_predictor([zoo], quick(), "toy", "nfn train …"))
    return folder


class Spy:
    """Which runs each training saw; networks that are no row of the zoo (untrained copies) are left out."""

    def __init__(self, encoded: Encoded) -> None:
        self.seen: list[set[str]] = []
        self._fit, self._runs = generalization.fit, encoded.data.runs
        self._row = {key: row for row, key in enumerate(self._keys(encoded.prepared))}

    def __call__(self, build: Any, config: Any, *examples: Any, **more: Any) -> Any:
        keys = [key for each in examples for key in self._keys(each.prepared)]
        self.seen.append({str(self._runs[self._row[key]]) for key in keys if key in self._row})
        return self._fit(build, config, *examples, **more)

    @staticmethod
    def _keys(prepared: Any) -> list[bytes]:
        return [weight.numpy().tobytes() for weight in prepared.features.weights[0]]


def runs_of(data: ZooData, rows: np.ndarray) -> set[str]:
    return set(map(str, data.runs[rows]))


def test_no_member_sees_a_run_that_judges_it_nor_a_test_run(encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    spy, data = Spy(encoded), encoded.data
    monkeypatch.setattr(generalization, "fit", spy)
    _, out_of_fold = train_members(encoded, quick())
    judged = np.isfinite(out_of_fold)
    assert len(spy.seen) == quick().folds
    assert data.test.any()
    assert (judged == ~data.test).all()
    for k, runs in enumerate(spy.seen):
        assert not runs & runs_of(data, data.test)
        assert runs == runs_of(data, judged & (data.fold != k))  # all others are seen, this fold is not


def test_the_in_distribution_test_sees_neither_test_runs_nor_those_that_set_its_thresholds(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy, data = Spy(encoded), encoded.data
    monkeypatch.setattr(generalization, "fit", spy)
    train_in_distribution(encoded, quick())
    (runs,) = spy.seen
    assert runs == runs_of(data, ~data.test & (data.fold != 0))


def test_the_card_is_true_to_the_zoo_and_the_files(trained: Path, encoded: Encoded) -> None:
    predictor, data = load_predictor(str(trained)), encoded.data
    card = predictor.card
    assert card.parameters == sum(parameter_count(member) for member in predictor.members)
    assert card.members == card.split["folds"] == 3
    assert card.training["epochs"] == 2
    assert card.data["rows"] == len(data) == 2 * RUNS
    assert card.data["kinds"] == {"small-cnn, relu": 2 * RUNS}
    assert card.data["runs"]["test"] == len(runs_of(data, data.test))
    assert card.test["count"] == int((data.test & data.final).sum()) == card.data["runs"]["test"]
    assert card.out_of_fold["count"] == card.data["runs"]["train"]
    assert card.interval["count"] == int((~data.test).sum())
    assert (trained / "README.md").read_text() == readme(card)
    assert f"{card.test['kendall_tau']:.3f}" in readme(card)
    assert (trained / "card.json").read_text() == card.to_json()


def test_figures_on_the_card_are_those_of_the_loaded_predictor(trained: Path, encoded: Encoded) -> None:
    predictor, data = load_predictor(str(trained)), encoded.data
    rows = torch.from_numpy(np.flatnonzero(data.test & data.final))
    answers = predictor.predict_prepared(encoded.exact[rows])
    actual, card = data.target[rows.numpy()], predictor.card
    guess = np.array([answer.predicted_test_accuracy for answer in answers])
    assert card.test["mae"] == pytest.approx(float(np.abs(guess - actual).mean()), abs=1e-9)
    inside = [low <= value <= high for (low, high), value in zip((a.interval for a in answers), actual, strict=True)]
    assert card.measured["coverage"] == pytest.approx(float(np.mean(inside)))
    alarms = [not answer.in_distribution for answer in answers]
    assert card.measured["alarm_on_test"] == pytest.approx(float(np.mean(alarms)))
    (part,) = data.parts
    stacked = predictor.predict_stacked(part.graph, {name: array[rows.numpy()] for name, array in part.tensors.items()})
    assert guess == pytest.approx([answer.predicted_test_accuracy for answer in stacked], abs=1e-9)


def test_signs_in_place_of_scales_where_the_activation_is_tanh(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo", runs=RUNS, activation="tanh")
    encoder = encode_zoo(loaded(tmp_path / "zoo", quick("tanh")), quick("tanh")).encoder
    assert encoder.settings() == {"group": "sign"}
    write_zoo(tmp_path / "gelu", runs=RUNS, activation="gelu")
    with pytest.raises(WrongUsage, match="gelu"):
        encode_zoo(loaded(tmp_path / "gelu", quick("gelu")), quick("gelu"))


def test_two_trainings_give_the_same_bytes_and_another_seed_others(zoo: Path, trained: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        write_predictor(tmp_path / name, *train_predictor([zoo], quick(seed=seed), "toy", "nfn train …"))
    for file in ("weights.safetensors", "card.json", "README.md"):
        assert (trained / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert (trained / file).read_bytes() != (tmp_path / "other" / file).read_bytes()


def states(members: tuple[torch.nn.Module, ...]) -> list[torch.Tensor]:
    return [tensor for member in members for tensor in member.state_dict().values()]


def test_a_training_killed_between_members_goes_on_and_ends_at_the_same_weights(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(epochs=20)  # as many as there are between two checkpoints
    fit, calls = generalization.fit, []

    def killed_in_the_third(*arguments: Any, **more: Any) -> Any:
        calls.append(more)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **more)

    unbroken, out_of_fold = train_members(encoded, config)
    monkeypatch.setattr(generalization, "fit", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train_members(encoded, config, tmp_path)
    resumed, again = train_members(encoded, config, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(states(unbroken), states(resumed), strict=True))
    assert np.array_equal(out_of_fold, again, equal_nan=True)
    epochs = (tmp_path / "log.jsonl").read_text().count('"train_loss"')
    assert epochs == 3 * config.epochs  # members 0 and 1 were not trained again


def test_checkpoints_of_another_zoo_are_not_used(encoded: Encoded, tmp_path: Path) -> None:
    config = quick(epochs=20, folds=2)
    write_zoo(tmp_path / "other", runs=RUNS, seed=1)
    other = encode_zoo(loaded(tmp_path / "other", config), config)
    train_members(other, config, tmp_path)
    fresh, _ = train_members(encoded, config)
    after, _ = train_members(encoded, config, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(states(fresh), states(after), strict=True))


@pytest.mark.parametrize(
    ("runs", "settings", "said"),
    [
        (2, {}, "too few"),
        (12, {"folds": 12, "test_fraction": 0.4}, "too few runs for 12 folds"),
        (RUNS, {"test_fraction": 0.0}, "0 test runs are too few"),
    ],
)
def test_too_few_runs_are_refused(tmp_path: Path, runs: int, settings: dict[str, Any], said: str) -> None:
    write_zoo(tmp_path, runs=runs)
    with pytest.raises(WrongUsage, match=said) as caught:
        train_predictor([tmp_path], quick(**settings), "toy", "…")
    assert caught.value.fix


def test_an_unknown_model_lists_the_known_ones(zoo: Path) -> None:
    with pytest.raises(WrongUsage, match="probe") as caught:
        train_predictor([zoo], GeneralizationConfig("oracle"), "toy", "…")
    assert caught.value.code == "unknown-model"


def test_the_example_is_a_final_row_of_the_test_side_in_torch_layout(zoo: Path) -> None:
    row = example_row(zoo, "relu")
    data = loaded(zoo, GeneralizationConfig("monomial-nfn", "relu"))
    assert row.runs[0] in runs_of(data, data.test)
    tensors = torch_layout(row)
    assert {name: t.shape for name, t in tensors.items()} == {
        "conv1.weight": (4, 1, 3, 3),
        "conv1.bias": (4,),
        "conv2.weight": (3, 4, 3, 3),
        "conv2.bias": (3,),
        "fc.weight": (2, 3),
        "fc.bias": (2,),
    }
    flat = row.weights[row.rows[0]]
    assert tensors["conv2.weight"][2, 3, 1, 0] == flat[43 + ((1 * 3 + 0) * 4 + 3) * 3 + 2]  # (h, w, in, out)
