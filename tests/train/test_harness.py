"""Training is deterministic, survives a kill without a trace in the weights, and learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, prepare
from nfn_cli.networks.weight_features import ChainShape
from nfn_cli.train import harness
from nfn_cli.train.harness import Examples, TrainConfig, evaluate, json_log, predict
from tests.networks.slow_group import Chain, random_features

CHAIN = Chain((2, 4, 3), (4, 1))
SHAPE = ChainShape(CHAIN.widths, CHAIN.positions)
ARCHITECTURE = MonomialNfnConfig("positive_scale", channels=(3, 3), head_width=8)
CONFIG = TrainConfig(epochs=6, batch_size=16, checkpoint_every=2, patience=0)


def examples(seed: int) -> Examples:
    prepared = prepare(ARCHITECTURE, random_features(CHAIN, seed, batch=128))
    energy = prepared.features.weights[0].square().mean((1, 2, 3))  # of the balanced form, so it can be learned
    return Examples(prepared.to(torch.float32), torch.sigmoid(2 * (energy - energy.mean())).float())


def fit(config: TrainConfig, training: Examples, validation: Examples | None = None, **more: Any) -> torch.nn.Module:
    return harness.fit(lambda: MonomialNfn(SHAPE, ARCHITECTURE), config, training, validation, **more)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_killed_training_ends_at_the_weights_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = fit(CONFIG, examples(0))
    whole, calls = harness._epoch, []

    def killed_in_the_fifth(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(harness, "_epoch", killed_in_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, examples(0), checkpoint=tmp_path / "member.pt")
    resumed = fit(CONFIG, examples(0), checkpoint=tmp_path / "member.pt")
    assert len(calls) == 5 + 2  # epochs 5 and 6 alone were left
    assert same(resumed, unbroken)


def test_a_checkpoint_of_other_settings_or_data_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    first = fit(CONFIG, examples(0), identity="0", checkpoint=path)
    other = replace(CONFIG, seed=5)
    assert same(fit(other, examples(0), identity="0", checkpoint=path), fit(other, examples(0)))
    fit(CONFIG, examples(0), identity="0", checkpoint=path)
    assert same(fit(CONFIG, examples(3), identity="3", checkpoint=path), fit(CONFIG, examples(3)))
    fit(CONFIG, examples(0), identity="0", checkpoint=path)
    # the control: under its own name it is used, and nothing is left to train
    assert same(fit(CONFIG, examples(3), identity="0", checkpoint=path), first)


def test_a_checkpoint_cut_short_by_a_kill_is_never_in_the_place_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "member.pt"
    fit(replace(CONFIG, epochs=2), examples(0), checkpoint=path)
    before = path.read_bytes()

    def killed_while_writing(parts: object, partial: BinaryIO) -> None:
        partial.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(harness.torch, "save", killed_while_writing)
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, examples(0), checkpoint=path)
    assert path.read_bytes() == before


def test_the_weights_that_did_best_on_validation_are_kept_and_training_stops_after_them(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=40, learning_rate=5e-2, patience=4, validate_every=1)
    log = tmp_path / "log.jsonl"
    model = fit(config, examples(0), examples(2), log=json_log(log))
    *epochs, last = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line["validation_loss"] for line in epochs]
    assert last == {"best_epoch": losses.index(min(losses)) + 1, "best_validation_loss": min(losses)}
    assert evaluate(model, examples(2)) == pytest.approx(min(losses), abs=1e-6)
    assert len(epochs) == min(last["best_epoch"] + 4, 40)
    assert [line["epoch"] for line in epochs] == list(range(1, len(epochs) + 1))


def test_predictions_start_at_the_mean_target() -> None:
    start = fit(replace(CONFIG, epochs=1, learning_rate=1e-9), examples(0))
    guess = predict(start, examples(1).prepared)
    assert guess == pytest.approx(float(examples(0).target.mean()), abs=1e-5)
    assert predict(fit(CONFIG, examples(0)), examples(1).prepared).std() > 1e-3  # the control


def test_seeds_make_different_networks() -> None:
    assert not same(
        fit(CONFIG, examples(0)),
        fit(replace(CONFIG, seed=1), examples(0)),
    )


def test_training_beats_the_constant_on_networks_it_has_not_seen() -> None:
    start = replace(CONFIG, epochs=1, learning_rate=1e-9)
    constant = evaluate(fit(start, examples(0)), examples(1))
    learned = evaluate(fit(replace(CONFIG, epochs=30), examples(0), examples(2)), examples(1))
    assert learned < 0.5 * constant
