"""An evaluation asks about the networks it was given, in its zoo's order, as they are and moved, each judged by its score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.errors import Refused
from nfn_cli.graph.stored_graph import network_of
from nfn_cli.predictors.predictor import Predictor, assemble
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.evaluation import UNTOUCHED, evaluate
from nfn_cli.train.generalization import GeneralizationConfig, train_predictor
from nfn_cli.train.metrics import coverage, scores
from nfn_cli.train.moves import UNIFORM_SCALES, moves_for
from nfn_cli.train.orbit import OrbitMove
from nfn_cli.train.zoo_data import ZooData, load_zoos
from tests.train.made_zoo import MIXED, RELU, TANH, write_made_zoo
from tests.zoo.making import image_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    image_file(folder / "images")
    write_made_zoo(folder / "zoo", RELU, TANH, MIXED, runs=12)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> ZooData:
    return load_zoos([folder / "zoo"])


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    config = GeneralizationConfig("probe", None, folder / "images", 12, epochs=2, folds=2, test_fraction=0.3)
    return assemble(*train_predictor([folder / "zoo"], config, "toy", "…"))


def by_hand(predictor: Predictor, data: ZooData) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, ends of the intervals and whether inside, one network after the other."""
    found: list[Any] = [None] * len(data)
    for part in data.parts:
        for place, row in enumerate(part.rows):
            single = {name: array[place : place + 1] for name, array in part.tensors.items()}
            found[row] = predictor.predict_stacked(part.graph, single)[0]
    return (
        np.array([each.predicted_test_accuracy for each in found]),
        np.array([each.interval[0] for each in found]),
        np.array([each.interval[1] for each in found]),
        np.array([each.in_distribution for each in found]),
    )


def test_figures_are_those_of_networks_asked_one_by_one(predictor: Predictor, data: ZooData) -> None:
    # only every third network, so that rows and parts are not in one order
    some = data.where(np.arange(len(data)) % 3 == 1)
    predicted, low, high, inside = by_hand(predictor, some)
    ((result,), refused) = evaluate(predictor, some, with_moves=False)
    assert refused == {}
    assert result.move is UNTOUCHED
    assert result.largest_change == 0.0
    wanted = scores(predicted, some.target)
    assert result.scores.count == len(some)
    for name in ("kendall_tau", "r2", "mae"):
        assert getattr(result.scores, name) == pytest.approx(getattr(wanted, name), abs=1e-9)
    assert result.coverage == coverage(low, high, some.target)
    assert result.interval_width == pytest.approx(float((high - low).mean()), abs=1e-9)
    assert result.in_distribution == float(inside.mean())
    # the control: to other scores the same answers are others
    other = replace(some, target=some.target[::-1].copy())
    assert evaluate(predictor, other, with_moves=False)[0][0].scores.mae != pytest.approx(wanted.mae, abs=1e-4)


def test_moves_are_those_of_the_groups_and_do_not_move_what_is_invariant(predictor: Predictor, data: ZooData) -> None:
    results, _ = evaluate(predictor, data, with_moves=True, seed=3)
    moves = [result.move for result in results]
    groups = [set(moves_for(find_symmetry([network_of(part.graph)]))) for part in data.parts]
    assert set(moves[1:]) == set.union(*groups)
    assert len(moves) == len(set(moves))
    assert moves[0] is UNTOUCHED
    assert {OrbitMove("uniform-scale", largest) for largest in UNIFORM_SCALES} < set(moves)
    assert OrbitMove("sign", 1.0) in moves
    for result in results:
        # weights moved by signs and permutations are the same numbers; by scales they are rounded to float32
        assert result.largest_change < (1e-5 if result.move.kind == "uniform-scale" else 1e-9), result.move
        assert result.scores.count == len(data)


def test_a_model_that_is_not_invariant_is_found_out(predictor: Predictor, data: ZooData) -> None:
    """It reads the mean of the first convolution, which permutations leave alone, and signs and scales do not."""

    class Naive(torch.nn.Module):
        def forward_prepared(self, prepared: torch.Tensor) -> torch.Tensor:
            return 5 * prepared[:, None]

    class FirstEntries:
        def accept(self, graph: Any, tensors: Any) -> Any:
            return graph, tensors

        def encode(self, graph: Any, stacked: Any) -> torch.Tensor:
            return torch.tensor([float(each.mean()) for each in stacked["convs.0.weight"]], dtype=torch.float64)

        def statistics(self, prepared: torch.Tensor) -> torch.Tensor:
            return prepared[:, None]

    class Everything:
        def inside(self, statistics: torch.Tensor, prepared: Any) -> torch.Tensor:
            return torch.ones(len(statistics), dtype=torch.bool)

    naive: Any = replace(predictor, encoder=FirstEntries(), members=(Naive(),), typicality=Everything())  # type: ignore[arg-type]
    changes = {result.move: result.largest_change for result in evaluate(naive, data, with_moves=True)[0]}
    assert changes[UNTOUCHED] == 0.0
    assert changes[OrbitMove("permutation", 1.0)] < 1e-6
    assert changes[OrbitMove("sign", 1.0)] > 1e-2
    assert changes[OrbitMove("uniform-scale", 1e1)] > 1e-2


def test_networks_that_are_not_taken_are_counted_by_reason(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    zoo = write_made_zoo(tmp_path / "zoo", replace(RELU, classes=4), RELU, replace(TANH, classes=5), runs=6, seed=4)
    mixed = load_zoos([zoo])
    ((result,), refused) = evaluate(predictor, mixed, with_moves=False)
    assert refused == {"it has 4 outputs, not 3": 12, "it has 5 outputs, not 3": 12}
    assert result.scores.count == 12
    taken = mixed.where(np.arange(36) // 12 == 1)
    assert result.scores.mae == pytest.approx(
        float(np.abs(by_hand(predictor, taken)[0] - taken.target).mean()), abs=1e-9
    )
    with pytest.raises(Refused, match="takes none of these networks: it has 4 outputs") as caught:
        evaluate(predictor, mixed.where(np.arange(36) // 12 == 0), with_moves=False)
    assert caught.value.code == "predictor-mismatch"


def test_one_seed_gives_one_answer_and_progress_is_told(predictor: Predictor, data: ZooData) -> None:
    some = data.where(np.arange(len(data)) < 24)
    told: list[tuple[int, int]] = []
    first, _ = evaluate(
        predictor, some, with_moves=True, seed=1, progress=lambda done, total: told.append((done, total))
    )
    again, _ = evaluate(predictor, some, with_moves=True, seed=1)
    assert first == again
    assert told == [(number, len(first)) for number in range(len(first))]
    other, _ = evaluate(predictor, some, with_moves=True, seed=2)
    assert [each.largest_change for each in other] != [each.largest_change for each in first]
