"""cli/train_generalization.py: `nfn train generalization`. Imports typer only: help must be fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o
from nfn_cli.cli import train_options as t
from nfn_cli.cli.stage_progress import stage_progress


def generalization(
    output: t.Output,
    zoo: o.Zoos,
    model: o.Model = None,
    activation: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--activation", metavar="NAME", help="Only the networks of this activation."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", help="Training images that probes are made from; see nfn zoo train-cnns --data."),
    ] = None,
    probes: Annotated[int, typer.Option("--probes", min=10, help="Inputs shown to every network.")] = 512,
    probe_epochs: Annotated[
        int, typer.Option("--probe-epochs", min=0, help="Learn the probes; pays where they are few.")
    ] = 0,
    name: t.Name = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Members, each trained without one fold.")] = 6,
    test_fraction: Annotated[float, typer.Option("--test-fraction", min=0.0, max=0.9, help="Runs set aside.")] = 0.15,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--epochs", min=1, help="Of each member.  [default: that of the model]"),
    ] = None,
    work: t.Work = None,
    threads: t.Threads = 1,
    seed: o.Seed = 0,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Train a predictor of test accuracy: read, split by run, train, calibrate, and measure once on the test runs.

    Writes card.json, README.md and weights.safetensors, which nfn predict-generalization --predictor takes.

    Examples:

      nfn train generalization --zoo zoo --activation relu --model monomial-nfn -o my-predictor

      nfn train generalization --zoo zoo --zoo more --model probe --images cifar10 -o my-predictor
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage

    session = Session("train-generalization", json)
    with session.guarded(str(output)):
        if (output / "card.json").exists() and not force:
            raise WrongUsage(
                "there is a predictor already", where=str(output), fix="--force replaces it", code="exists"
            )
        t.check_folders(output, work)
        import torch

        from nfn_cli.predictors.predictor import write_predictor
        from nfn_cli.train.generalization import GeneralizationConfig, train_predictor

        torch.set_num_threads(threads)
        config = GeneralizationConfig(
            model or "monomial-nfn",
            activation,
            images,
            probes,
            probe_epochs,
            epochs,
            folds=folds,
            test_fraction=test_fraction,
            seed=seed,
        )
        card, tensors = train_predictor(
            zoo, config, name or output.name, _command(config, len(zoo), output), work, stage_progress()
        )
        for reason, count in card.data["left_out"].items():
            session.note(f"{count} networks left out: {reason}")
        write_predictor(output, card, tensors)
        rows = {"test": card.test, "out_of_fold": card.out_of_fold}
        if json:
            measured = dict(card.measured)
            write_object(
                {
                    "schema": "nfn.train-generalization/1",
                    "path": str(output),
                    "predictor": card.name,
                    "model": card.model,
                    "parameters": card.parameters,
                    **rows,
                    "measured": measured,
                }
            )
        else:
            render.table(
                [("runs", "left"), ("Kendall τ", "right"), ("R²", "right"), ("MAE", "right"), ("counted", "right")],
                [
                    [
                        kind.replace("_", " "),
                        f"{s['kendall_tau']:.3f}",
                        f"{s['r2']:.3f}",
                        f"{s['mae']:.4f}",
                        str(s["count"]),
                    ]
                    for kind, s in rows.items()
                ],
            )
            render.line(
                f"interval covers {card.measured['coverage']:.1%}; wrong alarms {card.measured['alarm_on_test']:.1%}, "
                f"alarms on re-initialised {card.measured['alarm_on_reinitialised']:.1%}, "
                f"on shuffled {card.measured['alarm_on_shuffled']:.1%}"
            )
            render.line(f"{output}: written")
    session.end()


def _command(config: object, zoos: int, output: Path) -> str:
    """The command that trains the same again, with ZOO_DIR and IMAGES for what lies elsewhere on other machines."""
    from nfn_cli.train.generalization import GeneralizationConfig

    assert isinstance(config, GeneralizationConfig)
    default = GeneralizationConfig(config.model)
    names = ["ZOO_DIR", *(f"ZOO_DIR{n}" for n in range(2, zoos + 1))]
    parts = ["nfn train generalization", *(f"--zoo {name}" for name in names), f"--model {config.model}"]
    parts += [f"--activation {config.activation}"] if config.activation else []
    parts += [f"--images IMAGES --probes {config.probes}"] if config.images else []
    for field in ("probe_epochs", "epochs", "folds", "test_fraction", "seed"):
        value = getattr(config, field)
        if value != getattr(default, field):
            parts.append(f"--{field.replace('_', '-')} {value}")
    return " ".join([*parts, f"-o {output}"])
