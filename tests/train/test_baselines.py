"""Baselines are trained, shipped and loaded as Monomial-NFN is; unlike it they move with scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nfn_cli.predictors import load_predictor
from nfn_cli.predictors.predictor import write_predictor
from nfn_cli.train.evaluation import evaluate
from nfn_cli.train.generalization import GeneralizationConfig, train_predictor
from nfn_cli.train.zoo_data import load_zoos
from tests.zoo.tiny_zoo import write_zoo


@pytest.mark.parametrize(("model", "moves"), [("stat-net", True), ("np", True), ("hnp", True), ("monomial-nfn", False)])
def test_a_trained_baseline_is_loaded_and_its_answers_move_with_scales(tmp_path: Path, model: str, moves: bool) -> None:
    write_zoo(tmp_path / "zoo", runs=30)
    config = GeneralizationConfig(model, "relu", epochs=2, folds=2, test_fraction=0.3)
    write_predictor(tmp_path / "mine", *train_predictor([tmp_path / "zoo"], config, "mine", "nfn train …"))
    predictor = load_predictor(str(tmp_path / "mine"))
    assert predictor.card.model == model
    results, refused = evaluate(predictor, load_zoos([tmp_path / "zoo"], activation="relu"), with_moves=True)
    assert not refused
    changes = {result.move.kind: result.largest_change for result in results}
    assert np.isfinite(list(changes.values())).all()
    assert changes["permutation"] < 1e-9
    assert (changes["uniform-scale"] > 1e-4) == moves
