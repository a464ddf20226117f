"""cli/zoo_import.py: `nfn zoo import`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o
from nfn_cli.cli import zoo_options as z

if TYPE_CHECKING:
    from nfn_cli.zoo.checkpoint_folder import Progress

_INRS = "Sine networks (INRs), where neither they nor the CSV say it"


def import_(
    source: z.Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.", show_default=False)],
    activation: z.OnlyActivation = None,
    final_only: z.FinalOnly = True,
    score: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--score",
            metavar="COLUMN",
            help="A column that must hold a number; rows without one are left out. May be repeated.",
            show_default=False,
        ),
    ] = None,
    omega: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--omega",
            metavar="W[,W…]",
            help="All checkpoints that do not say what they are are sine networks: sin(ωz), one ω or one for each layer.",
            rich_help_panel=_INRS,
            show_default=False,
        ),
    ] = None,
    coordinates: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--coordinates",
            metavar="LOW,HIGH[,ORDER][,centred]",
            help="As of nfn fit-inr.",
            rich_help_panel=_INRS,
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--range", metavar="LOW,HIGH", help="Values of black and white.", rich_help_panel=_INRS, show_default=False
        ),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--size", metavar="N|HEIGHTxWIDTH", help="Of the images.", rich_help_panel=_INRS, show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a zoo in shards that is there.")] = False,
    json: o.Json = False,
) -> None:
    """Bring a zoo of any form into shards, which open at once whatever their size.

    Networks of one architecture lie together, their graph with them, the columns beside them. Checkpoints that cannot be
    taken are named on standard error with the reason; the others are imported. A column config.activation (or activation)
    of the CSV states the activation of checkpoints that do not say it themselves, config.omega (or omega) the frequency.

    The published SIREN folders of Zhou et al. 2023 (siren_mnist_wts and its like) and Navon et al. 2023 (mnist-inrs) need no
    CSV: label, image and split come from the names, sin and ω = 30 from the authors' code.

    With --omega a folder of SIRENs needs no CSV. What is said of images of INRs (--coordinates, --range, --size) fills the
    columns of rows that have none, and render, edit-inr and classify-inr go by it.

    Examples:

      nfn zoo import cifar10_small_cnn_zoo -o zoo --activation relu

      nfn zoo import runs/scores.csv -o zoo --score test_accuracy --all

      nfn zoo import siren_mnist_wts -o inrs

      nfn zoo import my-sirens -o inrs --omega 30 --coordinates 0,1,column-row --range -1,1 --size 28
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.graph import NameOptions
    from nfn_cli.zoo.import_zoo import import_zoo

    session = Session("zoo-import", json)
    cells = _cells(coordinates, pixels, size)
    with session.guarded(source):
        done = import_zoo(
            source,
            output,
            activation=activation,
            final_only=final_only,
            scores=score or (),
            force=force,
            stated=NameOptions(activation="sin", omega=omega) if omega else NameOptions(),
            cells=cells,
            opening=_progress("opening"),
            writing=_progress("writing"),
        )
        for note in done.notes:
            session.note(note)
        for each in done.left_out:
            session.note(f"left out {each.path}: {each.reason}")
        if json:
            write_object(
                {
                    "schema": "nfn.zoo-import/1",
                    "path": source,
                    "output": str(done.path),
                    "rows": done.rows,
                    "families": [{"name": name, "rows": rows} for name, rows in done.families.items()],
                    "left_out": [vars(each) for each in done.left_out],
                }
            )
        else:
            left = f", {len(done.left_out)} left out" if done.left_out else ""
            render.line(f"{done.path}: {done.rows:,} networks in {len(done.families)} families{left}")
    session.end()


def _cells(coordinates: str | None, pixels: str | None, size: str | None) -> dict[str, str]:
    """What is said of the images, in the columns that rows of INRs have."""
    from nfn_cli.zoo.inr_stated import Stated

    return Stated(
        None if size is None else i.size_of(size),
        None if coordinates is None else i.coordinates_of(coordinates),
        None if pixels is None else i.pair_of(pixels, "--range"),
    ).as_metadata()


def _progress(what: str) -> Progress:
    def shown(numbers: Sequence[int]) -> Iterator[int]:
        from nfn_cli.cli.work_progress import counted

        return counted(list(numbers), what)

    return shown
