"""cli/evaluate.py: `nfn evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.train.evaluation import Evaluation
    from nfn_cli.train.zoo_data import ZooData

_SPLITS = ("all", "test", "train")


def evaluate(
    predictor: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTOR", help="A shipped name, or a folder with card.json.", autocompletion=o.predictor_names
        ),
    ],
    zoo: o.Zoos,
    activation: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--activation", metavar="NAME", help="Only the networks of this activation."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="all; test: the runs that the predictor's own split sets aside; or train.")
    ] = "all",
    final_only: Annotated[
        bool, typer.Option("--final-only/--all", help="The last checkpoint of each run, or all of them.")
    ] = True,
    moves: Annotated[
        bool,
        typer.Option("--moves/--no-moves", help="Ask again after random scales, signs, phases and permutations."),
    ] = True,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Measure a predictor on a zoo with known scores, as the networks are and moved along their orbits.

    Kendall's τ, R², mean absolute error, coverage and width of the interval, share of networks inside what the predictor
    was trained for, and the largest change of a prediction under each move: scales from U[1, 10] to U[1, 10⁴] where they
    act, signs, phases, permutations.

    Examples:

      nfn evaluate generalization-cifar10gs-relu --zoo zoo --activation relu

      nfn evaluate my-predictor --zoo zoo --split test --json
    """
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage
    from nfn_cli.predictors.shipped import predictor_folder

    session = Session("evaluate", json)
    with session.watched(predictor):
        predictor_folder(predictor)
        if split not in _SPLITS:
            raise WrongUsage(f"{split!r} is no side of a split", where="--split", fix=f"one of {', '.join(_SPLITS)}")
        from nfn_cli.predictors.predictor import load_predictor
        from nfn_cli.train.evaluation import evaluate as measured
        from nfn_cli.train.zoo_data import load_zoos

        loaded = load_predictor(predictor)
        own = loaded.card.split
        data = load_zoos(zoo, activation=activation, test_fraction=float(own["test_fraction"]), seed=int(own["seed"]))
        for reason, count in data.left_out.items():
            session.note(f"{count} networks left out: {reason}")
        data = _side(data, split, final_only)
        results, refused = measured(loaded, data, with_moves=moves, seed=seed)
        for reason, count in refused.items():
            session.note(f"{count} networks not taken: {reason}")
        if json:
            write_object(
                {
                    "schema": "nfn.evaluate/1",
                    "path": ", ".join(zoo),
                    "predictor": loaded.card.name,
                    "split": split,
                    "networks": results[0].scores.count,
                    "not_taken": sum(refused.values()),
                    "results": [_object(result) for result in results],
                }
            )
        else:
            _render(results)
    session.end()


def _side(data: ZooData, split: str, final_only: bool) -> ZooData:
    from nfn_cli.errors import WrongUsage

    keep = data.test if split == "test" else ~data.test if split == "train" else data.test | ~data.test
    keep = keep & data.final if final_only else keep
    if not keep.any():
        raise WrongUsage(f"no network on the {split} side", where="--split")
    return data.where(keep)


def _object(result: Evaluation) -> dict[str, Any]:
    from math import isfinite

    numbers: Mapping[str, float] = {
        "kendall_tau": result.scores.kendall_tau,
        "r2": result.scores.r2,
        "mae": result.scores.mae,
        "coverage": result.coverage,
        "interval_width": result.interval_width,
        "in_distribution": result.in_distribution,
        "largest_change": result.largest_change,
    }
    return {
        "move": result.move.kind,
        "magnitude": result.move.largest,
        **{name: value if isfinite(value) else None for name, value in numbers.items()},
    }


def _render(results: tuple[Evaluation, ...]) -> None:
    from nfn_cli.cli import render

    # "inside" is in distribution, "change" the largest one beside the untouched networks: a line has 80 characters
    columns = ("networks", "Kendall τ", "R²", "MAE", "covered", "width", "inside", "change")
    render.table(
        [(columns[0], "left"), *((name, "right") for name in columns[1:])],
        [
            [
                _words(result),
                f"{result.scores.kendall_tau:.4f}",
                f"{result.scores.r2:.3f}",
                f"{result.scores.mae:.4f}",
                f"{result.coverage:.1%}",
                f"{result.interval_width:.3f}",
                f"{result.in_distribution:.1%}",
                f"{result.largest_change:.1e}",
            ]
            for result in results
        ],
    )
    render.line(f"{results[0].scores.count} networks")


def _words(result: Evaluation) -> str:
    move = result.move
    if move.kind == "uniform-scale":
        return f"scales U[1, {move.largest:g}]"
    return {"untouched": "as they are", "sign": "signs", "phase": "phases", "permutation": "permutations"}.get(
        move.kind, move.kind
    )
