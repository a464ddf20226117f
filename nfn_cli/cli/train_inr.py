"""cli/train_inr.py: `nfn train inr-classifier`. Imports typer only: help must be fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import options as o
from nfn_cli.cli import train_options as t
from nfn_cli.cli.stage_progress import stage_progress

if TYPE_CHECKING:
    from nfn_cli.predictors.inr_card import InrCard
    from nfn_cli.train.inr_classifier import InrClassifierConfig


def inr_classifier(
    zoos: Annotated[list[str], typer.Argument(metavar="ZOO", help="Zoos of INRs; see nfn zoo fit-inrs.")],
    output: t.Output,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="probe, phasor, monomial-nfn or hnp.")
    ] = "probe",
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", help="The images of the zoo; a probe model is shown those for training, too."),
    ] = None,
    outside: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--outside", metavar="ZOO", help="INRs of other images, to be told apart; may be given again."),
    ] = None,
    labels: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--labels", metavar="NAME,NAME,…", help="Names of the classes.  [default: their numbers]"),
    ] = None,
    exchanged: Annotated[
        float,
        typer.Option("--exchanged", min=0.0, max=0.5, help="Share shown with rows and columns exchanged; 0: never."),
    ] = 0.2,
    mirrored: Annotated[float, typer.Option("--mirrored", min=0.0, max=0.5, help="Share shown mirrored.")] = 0.0,
    name: t.Name = None,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--epochs", help="Of the training on INRs.  [default: that of the model]", min=1),
    ] = None,
    work: t.Work = None,
    threads: t.Threads = 1,
    seed: o.Seed = 0,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Train a classifier of INRs: train on INRs of training images, calibrate, and measure once on those of test images.

    Writes card.json, README.md and weights.safetensors, which nfn classify-inr --predictor takes.

    Examples:

      nfn train inr-classifier zoo --images mnist --outside other-zoo -o my-predictor

      nfn train inr-classifier zoo --model phasor -o my-phasors --work work
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage

    session = Session("train-inr-classifier", json)
    with session.guarded(str(output)):
        if (output / "card.json").exists() and not force:
            raise WrongUsage(
                "there is a predictor already", where=str(output), fix="--force replaces it", code="exists"
            )
        t.check_folders(output, work)
        import torch

        from nfn_cli.predictors.inr_predictor import write_inr_predictor
        from nfn_cli.train.inr_classifier import InrClassifierConfig, train_inr_classifier

        torch.set_num_threads(threads)
        words = tuple(word.strip() for word in labels.split(",")) if labels else ()
        config = InrClassifierConfig(
            model, images, tuple(outside or ()), words, epochs, exchanged=exchanged, mirrored=mirrored, seed=seed
        )
        card, tensors = train_inr_classifier(
            zoos, config, name or output.name, _commands(config, zoos, output), work, stage_progress()
        )
        if card.data["left_out"]:
            session.note(f"{card.data['left_out']} networks left out: a weight is not finite")
        write_inr_predictor(output, card, tensors)
        if json:
            write_object(_answer(card, output))
        else:
            columns = [("INRs of test images", "left"), ("accuracy", "right"), ("count", "right")]
            rows = [[name, f"{part['accuracy']:.2%}", str(part["count"])] for name, part in card.test["parts"].items()]
            render.table(columns, rows)
            told = ", ".join(f"{kind} {share:.1%}" for kind, share in card.in_distribution.items())
            render.line(f"calibration error {card.test['ece']:.4f}; not in distribution: {told}")
            render.line(f"{output}: written")
    session.end()


def _answer(card: InrCard, output: Path) -> dict[str, object]:
    return {
        "schema": "nfn.train-inr-classifier/1",
        "path": str(output),
        "predictor": card.name,
        "model": card.model,
        "parameters": card.parameters,
        "test": dict(card.test),
        "in_distribution": dict(card.in_distribution),
    }


def _commands(config: InrClassifierConfig, zoos: list[str], output: Path) -> tuple[str, ...]:
    """The commands that make the zoos and train the same again."""
    folders = [Path(zoo) for zoo in zoos]
    makes = [_making(folder) for folder in (*folders, *config.outside)]
    parts = ["nfn train inr-classifier", *(folder.name for folder in folders), f"--model {config.model}"]
    parts += [f"--images IMAGES/{config.images.name}"] if config.images else []
    parts += [f"--outside {folder.name}" for folder in config.outside]
    parts += [f"--labels '{','.join(config.labels)}'"] if config.labels else []
    default = type(config)(config.model)
    for field in ("exchanged", "mirrored", "epochs", "seed"):
        value = getattr(config, field)
        if value != getattr(default, field):
            parts.append(f"--{field} {value:g}")
    return (*makes, " ".join([*parts, f"-o {output.name}"]))


def _making(folder: Path) -> str:
    """`nfn zoo fit-inrs` as it made this zoo, from what the zoo says of itself."""
    import json

    try:
        record = json.loads((folder / "zoo.json").read_text())
        told, data = record["making"], record["data"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"nfn zoo fit-inrs -o {folder.name}"
    parts = [f"nfn zoo fit-inrs --dataset IMAGES/{data} -o {folder.name}"]
    if told.get("hidden"):
        parts.append(f"--hidden {','.join(map(str, told['hidden']))}")
    parts += ["--alike"] if told.get("alike") else []
    fields = ("omega", "steps", "train", "test", "seed")
    parts += [f"--{field} {told[field]}" for field in fields if told.get(field) is not None]
    return " ".join(parts)
