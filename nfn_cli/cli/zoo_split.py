"""cli/zoo_split.py: `nfn zoo split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o
from nfn_cli.cli import zoo_options as z


def split(
    source: z.Source,
    test_fraction: Annotated[float, typer.Option(help="Share of the runs to test on.", min=0.0, max=1.0)] = 0.15,
    seed: o.Seed = 0,
    activation: z.OnlyActivation = None,
    final_only: z.FinalOnly = True,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="CSV to write: row, run and side of each network.", show_default=False),
    ] = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Split a zoo into networks to train and to test on, by run.

    All checkpoints of a run are on one side. The side is a hash of the run's name and the seed, so a run keeps it when
    the zoo grows, is filtered or comes in another form.

    Examples:

      nfn zoo split zoo --test-fraction 0.2 --seed 1

      nfn zoo split zoo --activation relu -o split.csv
    """
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.cli.zoo_import import _progress
    from nfn_cli.zoo.open_zoo import open_zoo
    from nfn_cli.zoo.split_table import split_summary, write_split

    session = Session("zoo-split", json)
    with session.watched(source):
        if output is not None:
            check_output(output, force)
        zoo = open_zoo(source, activation=activation, final_only=final_only, progress=_progress("opening"))
        for each in zoo.left_out:
            session.note(f"left out {each.path}: {each.reason}")
        summary = split_summary(zoo, test_fraction, seed)
        if output is not None:
            write_split(zoo, test_fraction, seed, output, force=force)
        if json:
            written = None if output is None else str(output)
            write_object({"schema": "nfn.zoo-split/1", "path": source, "output": written, **summary})
        else:
            render.table(
                [("side", "left"), ("runs", "right"), ("rows", "right")],
                [[side, f"{summary[side]['runs']:,}", f"{summary[side]['rows']:,}"] for side in ("train", "test")],
            )
    session.end()
