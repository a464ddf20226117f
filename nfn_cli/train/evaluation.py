"""train/evaluation.py: a predictor asked about the networks of zoos, as they are and moved along their orbits.

Knows predictors, zoo data and orbit moves; no training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.stored_graph import network_of
from nfn_cli.predictors.predictor import Prediction, Predictor
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.metrics import Scores, coverage, scores
from nfn_cli.train.orbit import OrbitMove, moved, moves_for
from nfn_cli.train.zoo_data import ZooData
from nfn_cli.train.zoo_part import Part

Array = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Progress = Callable[[int, int], None]
UNTOUCHED = OrbitMove("untouched", 0.0)


@dataclass(frozen=True)
class Evaluation:
    """How a predictor did under one kind of move.

    Attributes:
        move: of every network before it was asked about; `UNTOUCHED` for none.
        scores: of the predictions.
        coverage: share of networks whose score lies in the interval.
        interval_width: mean.
        in_distribution: share of networks inside what the predictor was trained for.
        largest_change: of a prediction, beside the untouched network.
    """

    move: OrbitMove
    scores: Scores
    coverage: float
    interval_width: float
    in_distribution: float
    largest_change: float


@dataclass(frozen=True)
class Answers:
    """Predictions (n,), ends of the intervals (n,), and whether inside (n,)."""

    predicted: FloatArray
    low: FloatArray
    high: FloatArray
    inside: Array


def evaluate(
    predictor: Predictor, data: ZooData, *, with_moves: bool, seed: int = 0, progress: Progress | None = None
) -> tuple[tuple[Evaluation, ...], Mapping[str, int]]:
    """Evaluations, untouched first, and the networks that were not taken: reason -> how many.

    A move is tried if the group of any network has it; networks whose group has not are asked as they are. Moved weights
    are rounded to float32, as a file would hold them.

    Raises:
        Refused: the predictor takes none of the networks.
    """
    taken, refused = _taken(predictor, data)
    rows = np.concatenate([part.rows for part in taken]) if taken else np.zeros(0, np.int64)
    if not len(rows):
        reason = next(iter(refused), "there is none")
        raise Refused(f"the predictor takes none of these networks: {reason}", code="predictor-mismatch")
    actual = data.target[rows]
    symmetries = [find_symmetry([network_of(part.graph)]) for part in taken]
    moves = [UNTOUCHED]
    for symmetry in symmetries if with_moves else ():
        moves += [move for move in moves_for(symmetry) if move not in moves]
    results: list[Evaluation] = []
    before: FloatArray | None = None
    for number, move in enumerate(moves):
        if progress is not None:
            progress(number, len(moves))
        parts = [
            part
            if move is UNTOUCHED or move not in moves_for(symmetry)
            else Part(part.graph, moved(part.graph, symmetry, part.tensors, move, seed + place), part.rows)
            for place, (part, symmetry) in enumerate(zip(taken, symmetries, strict=True))
        ]
        answers = _asked(predictor, parts)
        before = answers.predicted if before is None else before
        results.append(
            Evaluation(
                move,
                scores(answers.predicted, actual),
                coverage(answers.low, answers.high, actual),
                float((answers.high - answers.low).mean()),
                float(answers.inside.mean()),
                float(np.abs(answers.predicted - before).max()),
            )
        )
    return tuple(results), refused


def _taken(predictor: Predictor, data: ZooData) -> tuple[list[Part], dict[str, int]]:
    taken: list[Part] = []
    refused: dict[str, int] = {}
    for part in data.parts:
        try:
            predictor.accept(part.graph, {name: array[0] for name, array in part.tensors.items()})
        except Refused as error:
            refused[error.what] = refused.get(error.what, 0) + len(part)
            continue
        taken.append(part)
    return taken, refused


def _asked(predictor: Predictor, parts: list[Part]) -> Answers:
    found: list[Prediction] = []
    for part in parts:
        graph, names = predictor.accept(part.graph, {name: array[0] for name, array in part.tensors.items()})
        found += predictor.predict_stacked(graph, {name: part.tensors[name] for name in names})
    return Answers(
        np.array([each.predicted_test_accuracy for each in found]),
        np.array([each.interval[0] for each in found]),
        np.array([each.interval[1] for each in found]),
        np.array([each.in_distribution for each in found]),
    )
