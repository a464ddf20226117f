"""Networks of zoos in memory: each with its own score, sides by the run's own name, what is not finite left out and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfn_cli.errors import WrongUsage
from nfn_cli.train.zoo_data import ZooData, load_zoos
from nfn_cli.zoo import fold_of_run, split_of_run
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.store import create_zoo, write_shard
from tests.train.made_zoo import MIXED, RELU, TANH, stack, write_made_zoo
from tests.zoo.tiny_zoo import write_zoo


def weight_of(data: ZooData, row: int) -> np.ndarray:
    """The first convolution of a row, flat."""
    (part,) = [part for part in data.parts if row in part.rows]
    name = next(name for name in ("convs.0.weight", "conv1.weight") if name in part.tensors)
    return np.asarray(part.tensors[name][list(part.rows).index(row)]).reshape(-1)


@pytest.fixture(scope="module")
def two_zoos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one folder name and with the same run names."""
    folders = [tmp_path_factory.mktemp(name) / "zoo" for name in ("a", "b")]
    write_made_zoo(folders[0], RELU, MIXED, runs=10)
    write_made_zoo(folders[1], TANH, runs=10, seed=1)
    return folders


def test_rows_keep_their_order_over_zoos_and_families(two_zoos: list[Path]) -> None:
    data = load_zoos(two_zoos)
    assert len(data) == 40 + 20
    assert sorted(np.concatenate([part.rows for part in data.parts]).tolist()) == list(range(60))
    for folder, start in zip(two_zoos, (0, 40), strict=True):
        alone = load_zoos([folder])
        rows = range(len(alone))
        assert np.array_equal(alone.target, data.target[start : start + len(alone)])
        for row in (rows[0], rows[-1], rows[len(rows) // 2]):
            assert np.array_equal(weight_of(alone, row), weight_of(data, start + row))
    assert not np.array_equal(weight_of(data, 0), weight_of(data, 40))
    assert set(data.kind[:20]) == {"small-cnn, relu"}
    assert set(data.kind[40:]) == {"small-cnn, tanh"}


def test_runs_of_two_zoos_that_have_one_name_are_two_runs_on_one_side(two_zoos: list[Path]) -> None:
    data = load_zoos(two_zoos, test_fraction=0.4, folds=3, seed=5)
    assert len(set(data.runs.tolist())) == 20 + 10
    assert all(len(set(data.runs[place : place + 2])) == 1 for place in range(0, 60, 2))
    for start, folder in zip((0, 40), two_zoos, strict=True):
        alone = load_zoos([folder], test_fraction=0.4, folds=3, seed=5)
        # a run's side does not depend on what is read beside it, so that a predictor is judged on what it has not seen
        assert np.array_equal(alone.test, data.test[start : start + len(alone)])
        assert np.array_equal(alone.fold, data.fold[start : start + len(alone)])
        assert np.array_equal(alone.test, split_of_run(alone.runs, 0.4, 5))
        assert np.array_equal(alone.fold, fold_of_run(alone.runs, 3, 5))
    assert data.test.any()
    assert not data.test.all()
    assert not np.array_equal(load_zoos(two_zoos, test_fraction=0.4, folds=3, seed=6).test, data.test)


def test_three_zoos_of_one_folder_name_do_not_mix_their_runs(two_zoos: list[Path], tmp_path: Path) -> None:
    third = write_made_zoo(tmp_path / "zoo", TANH, runs=10, seed=2)
    assert len(set(load_zoos([*two_zoos, third]).runs.tolist())) == 20 + 10 + 10


def test_a_zoo_named_twice_is_refused(two_zoos: list[Path]) -> None:
    with pytest.raises(WrongUsage, match="twice"):
        load_zoos([two_zoos[0], two_zoos[0] / ".." / "zoo"])


def test_rows_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    graph = cnn_graph(RELU)
    tensors = stack(graph, np.ones(8), np.random.default_rng(0))
    tensors["convs.1.weight"][2, 1, 2, 0, 1] = np.nan
    tensors["head.bias"][5, 0] = np.inf
    columns = {
        "run": [f"r{row}" for row in range(8)],
        "test_accuracy": [0.1, 0.2, 0.3, float("nan"), 0.5, 0.6, 0.7, 0.8],
    }
    create_zoo(tmp_path, "made for a test")
    write_shard(tmp_path, "0", graph, tensors, columns)
    data = load_zoos([tmp_path])
    assert data.target.tolist() == [0.1, 0.2, 0.5, 0.7, 0.8]
    assert data.runs.tolist() == ["r0", "r1", "r4", "r6", "r7"]
    assert data.left_out == {f"{tmp_path}: a weight or the score is not finite": 3}
    assert "5 checkpoints of 5 runs" in data.description
    for row, old in enumerate((0, 1, 4, 6, 7)):
        assert np.array_equal(weight_of(data, row), tensors["convs.0.weight"][old].reshape(-1))


def test_the_last_checkpoint_of_each_run_is_final(two_zoos: list[Path], tmp_path: Path) -> None:
    assert load_zoos(two_zoos).final.tolist() == [False, True] * 30
    write_zoo(tmp_path / "published", runs=5)
    assert load_zoos([tmp_path / "published"]).final.tolist() == [False, True] * 5


def test_a_choice_of_rows_keeps_each_with_its_own(two_zoos: list[Path]) -> None:
    data = load_zoos(two_zoos)
    keep = np.arange(60) % 7 == 3
    some = data.where(keep)
    old = np.flatnonzero(keep)
    assert len(some) == len(old)
    for row, before in enumerate(old):
        assert np.array_equal(weight_of(some, row), weight_of(data, int(before)))
        for column in ("target", "runs", "final", "test", "fold", "kind"):
            assert getattr(some, column)[row] == getattr(data, column)[before]
    none_of_the_first = data.where(np.arange(60) >= 20)
    assert len(none_of_the_first.parts) == len(data.parts) - 1


def test_an_activation_chooses_among_the_networks(two_zoos: list[Path]) -> None:
    data = load_zoos(two_zoos[:1], activation="relu")
    assert len(data) == 20
    with pytest.raises(WrongUsage, match="it has: "):
        load_zoos(two_zoos[:1], activation="gelu")


@pytest.mark.parametrize(("score", "said"), [([0.5, 97.0], "goes from 0.5 to 97"), ([np.nan, np.nan], "no network")])
def test_scores_that_are_no_accuracies_are_refused(tmp_path: Path, score: list[float], said: str) -> None:
    graph = cnn_graph(RELU)
    create_zoo(tmp_path, "made for a test")
    columns: dict[str, Any] = {"run": ["a", "b"], "test_accuracy": score}
    write_shard(tmp_path, "0", graph, stack(graph, np.ones(2), np.random.default_rng(0)), columns)
    with pytest.raises(WrongUsage, match=said):
        load_zoos([tmp_path])
