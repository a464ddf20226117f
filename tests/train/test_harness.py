"""Training is deterministic, survives a kill without a trace in the weights, and learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nfn_cli.networks.monomial_nfn import MonomialNfnConfig, prepare
from nfn_cli.networks.weight_features import ChainShape
from nfn_cli.train import harness
from nfn_cli.train.harness import Examples, TrainConfig, evaluate, fit
from tests.networks.slow_group import Chain, random_features

CHAIN = Chain((2, 4, 3), (4, 1))
SHAPE = ChainShape(CHAIN.widths, CHAIN.positions)
ARCHITECTURE = MonomialNfnConfig("positive_scale", channels=(3, 3), head_width=8)
CONFIG = TrainConfig(epochs=6, batch_size=16, checkpoint_every=2, patience=0)


def examples(seed: int) -> Examples:
    prepared = prepare(ARCHITECTURE, random_features(CHAIN, seed, batch=128))
    energy = prepared.features.weights[0].square().mean((1, 2, 3))  # of the balanced form, so it can be learned
    return Examples(prepared.to(torch.float32), torch.sigmoid(2 * (energy - energy.mean())).float())


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_killed_training_ends_at_the_weights_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None)
    whole, calls = harness._epoch, []

    def killed_in_the_fifth(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(harness, "_epoch", killed_in_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None, checkpoint=tmp_path / "member.pt")
    resumed = fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None, checkpoint=tmp_path / "member.pt")
    assert len(calls) == 5 + 2  # epochs 5 and 6 alone were left
    assert same(resumed, unbroken)


def test_a_checkpoint_of_other_settings_or_data_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "member.pt"
    fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None, checkpoint=path)
    other = replace(CONFIG, seed=5)
    assert same(
        fit(SHAPE, ARCHITECTURE, other, examples(0), None, checkpoint=path),
        fit(SHAPE, ARCHITECTURE, other, examples(0), None),
    )
    fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None, checkpoint=path)
    assert same(
        fit(SHAPE, ARCHITECTURE, CONFIG, examples(3), None, checkpoint=path),
        fit(SHAPE, ARCHITECTURE, CONFIG, examples(3), None),
    )


def test_seeds_make_different_networks() -> None:
    assert not same(
        fit(SHAPE, ARCHITECTURE, CONFIG, examples(0), None),
        fit(SHAPE, ARCHITECTURE, replace(CONFIG, seed=1), examples(0), None),
    )


def test_training_beats_the_constant_on_networks_it_has_not_seen() -> None:
    start = replace(CONFIG, epochs=1, learning_rate=1e-9)
    constant = evaluate(fit(SHAPE, ARCHITECTURE, start, examples(0), None), examples(1))
    learned = evaluate(fit(SHAPE, ARCHITECTURE, replace(CONFIG, epochs=30), examples(0), examples(2)), examples(1))
    assert learned < 0.5 * constant
