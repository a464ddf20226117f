"""cli/train_inr_editor.py: `nfn train inr-editor`. Imports typer only: help must be fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o
from nfn_cli.cli import train_options as t
from nfn_cli.cli.stage_progress import stage_progress

if TYPE_CHECKING:
    from nfn_cli.predictors.inr_edit_card import EditorCard


def inr_editor(
    zoos: Annotated[list[str], typer.Argument(metavar="ZOO", help="Zoos of INRs; see nfn zoo fit-inrs.")],
    images: Annotated[
        list[str],
        typer.Option("--images", metavar="DIR", help="The images of the zoo; once for each zoo.", show_default=False),
    ],
    style: Annotated[
        str, typer.Option("--style", metavar="dilate|erode|contrast", help="What to do.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the editor.", show_default=False)],
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=500, help="Of the weights, for every INR; with --begin as there.")
    ] = 20,
    rows: Annotated[
        Optional[int],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option("--rows", min=1, help="INRs of training pictures taken from each zoo.  [default: all]"),
    ] = None,
    test_rows: Annotated[int, typer.Option("--test-rows", min=1, help="INRs of test pictures, from each.")] = 512,
    picture_batches: Annotated[
        int, typer.Option("--picture-batches", min=1, help="Of 24, to learn the wanted picture.")
    ] = 500,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Of 8, to learn everything.")] = 150,
    begin: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--begin", metavar="NAME|DIR", help="An editor of any style whose steps are where these begin."),
    ] = None,
    name: t.Name = None,
    work: t.Work = None,
    threads: t.Threads = 1,
    seed: o.Seed = 0,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Train an editor of sine INRs: train on INRs of training images, and measure once on those of test images.

    Writes editor.json, README.md and weights.safetensors, which nfn edit-inr --predictor takes.

    Examples:

      nfn train inr-editor mnist-inrs --images mnist --style dilate -o my-editor --work work
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage

    session = Session("train-inr-editor", json)
    with session.guarded(str(output)):
        if (output / "editor.json").exists() and not force:
            raise WrongUsage("there is an editor already", where=str(output), fix="--force replaces it", code="exists")
        t.check_folders(output, work)
        import torch

        from nfn_cli.networks.inr_edit import EditorShape
        from nfn_cli.predictors.inr_edit import load_editor, write_editor
        from nfn_cli.train.inr_edit import EditTraining
        from nfn_cli.train.inr_editor import check_style, train_editor

        check_style(style)
        torch.set_num_threads(threads)
        started = None if begin is None else load_editor(begin).network
        shape = EditorShape(style, steps=steps) if started is None else replace(started.shape, style=style)
        config = EditTraining(picture_batches=picture_batches, batches=batches, seed=seed)
        card, network = train_editor(
            zoos,
            images,
            shape,
            config,
            name or output.name,
            _command(images, shape.style, shape.steps, begin, rows, config, output),
            begin=started,
            rows=rows,
            test_rows=test_rows,
            work=work,
            progress=stage_progress(),
        )
        write_editor(output, card, network)
        if json:
            write_object(_answer(output, card))
        else:
            render.table(
                [("INRs of", "left"), ("count", "right"), ("unedited", "right"), ("edited", "right")],
                [
                    [name, str(row["count"]), f"{row['unedited']:.5f}", f"{row['edited']:.5f}"]
                    for name, row in card.test.items()
                ],
            )
            render.line(f"{output}: written")
    session.end()


def _command(
    images: list[str], style: str, steps: int, begin: str | None, rows: int | None, config: Any, output: Path
) -> str:
    """The command that trains the same again, with names in capitals for what lies elsewhere on other machines."""
    sets = [Path(where).name for where in images]
    parts = ["nfn train inr-editor", *(f"{name.upper()}_INRS" for name in sets)]
    parts += [f"--images {name.upper()}" for name in sets]
    parts += [f"--style {style}", f"--steps {steps}" if begin is None else f"--begin {Path(begin).name}"]
    parts += [f"--picture-batches {config.picture_batches}"]
    parts += [f"--batches {config.batches} --seed {config.seed}", *([f"--rows {rows}"] if rows else [])]
    return " ".join([*parts, f"-o {output.name}"])


def _answer(output: Path, card: EditorCard) -> dict[str, Any]:
    return {
        "schema": "nfn.train-inr-editor/1",
        "path": str(output),
        "predictor": card.name,
        "style": card.style,
        "parameters": card.parameters,
        "test": card.test,
    }
