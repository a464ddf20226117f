"""From a zoo to a folder that predicts: nothing of a run is on two sides, and the card says what is in the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nfn_cli.networks.monomial_nfn import MonomialNfnConfig, parameter_count, prepare
from nfn_cli.predictors import load_predictor
from nfn_cli.predictors.predictor import write_predictor
from nfn_cli.train import generalization
from nfn_cli.train.example import example_row, torch_layout
from nfn_cli.train.generalization import (
    GROUP_OF,
    GeneralizationConfig,
    default_config,
    load_tensors,
    train_members,
    train_predictor,
)
from nfn_cli.train.harness import TrainConfig
from tests.zoo.tiny_zoo import write_zoo


def quick(activation: str) -> GeneralizationConfig:
    return replace(
        default_config(activation),
        architecture=MonomialNfnConfig(GROUP_OF[activation], channels=(2, 2), head_width=8),
        training=TrainConfig(epochs=2, patience=0),
        folds=3,
        test_fraction=0.2,
    )


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    write_zoo(folder, runs=60)
    return folder


def test_no_member_sees_a_run_that_judges_it_nor_a_test_run(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick("relu")
    data = load_tensors(zoo, config)
    prepared = prepare(config.architecture, data.raw).to(torch.float32)
    of_row = {prepared.features.weights[0][i].numpy().tobytes(): i for i in range(len(data.target))}
    seen: list[set[str]] = []
    fit = generalization.fit

    def spy(shape: object, architecture: object, training: object, learned: object, *rest: object, **more: object):  # type: ignore[no-untyped-def]
        rows = [of_row[w.numpy().tobytes()] for w in learned.prepared.features.weights[0]]  # type: ignore[attr-defined]
        seen.append(set(data.zoo.runs[rows].tolist()))
        return fit(shape, architecture, training, learned, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(generalization, "fit", spy)
    _, out_of_fold = train_members(data, prepared, config)
    test_runs = set(data.zoo.runs[data.test].tolist())
    judged = np.isfinite(out_of_fold)
    assert len(seen) == config.folds
    assert test_runs
    assert (judged == ~data.test).all()
    for k, runs in enumerate(seen):
        assert not runs & test_runs
        assert not runs & set(data.zoo.runs[judged & (data.fold == k)].tolist())
        assert runs & set(data.zoo.runs[judged & (data.fold != k)].tolist())  # the control: others are seen


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_trained_folder_predicts_and_its_card_is_true(tmp_path: Path, activation: str) -> None:
    write_zoo(tmp_path / "zoo", runs=60, activation=activation)
    config = quick(activation)
    card, tensors = train_predictor(tmp_path / "zoo", config, "toy", "python -m …")
    write_predictor(tmp_path / "toy", card, tensors)
    predictor = load_predictor(str(tmp_path / "toy"))
    assert predictor.card == load_predictor(str(tmp_path / "toy")).card
    assert card.parameters == sum(parameter_count(member) for member in predictor.members)
    data = load_tensors(tmp_path / "zoo", config)
    assert card.test["count"] == int((data.test & data.final).sum())
    assert card.interval["count"] == int((~data.test).sum())
    answers = predictor.predict_features(data.raw[torch.arange(3)])
    assert all(a.interval[0] <= a.predicted_test_accuracy <= a.interval[1] for a in answers)
    assert f"{card.test['kendall_tau']:.3f}" in (tmp_path / "toy" / "README.md").read_text()


def test_two_trainings_give_the_same_bytes(zoo: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_predictor(tmp_path / name, *train_predictor(zoo, quick("relu"), "toy", "…"))
    for file in ("weights.safetensors", "card.json", "README.md"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_example_is_a_final_row_of_the_test_side_in_torch_layout(zoo: Path) -> None:
    row = example_row(zoo, "relu")
    data = load_tensors(zoo, default_config("relu"))
    assert row.runs[0] in set(data.zoo.runs[data.test].tolist())
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
