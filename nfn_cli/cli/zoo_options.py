"""cli/zoo_options.py: arguments and options that several `nfn zoo` commands share. Imports typer only."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o

Source = Annotated[
    str,
    typer.Argument(
        metavar="ZOO",
        help="A folder in shards (zoo.json), in the layout of the Small CNN Zoo (weights.npy, layout.csv, metrics.csv.gz), "
        "or of checkpoints with a CSV that has a column path; that CSV; or a published folder of SIRENs.",
    ),
]
OnlyActivation = Annotated[
    Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
    typer.Option("--activation", metavar="NAME", help="Only networks with it.", autocompletion=o._activations),
]
FinalOnly = Annotated[
    bool, typer.Option("--final-only/--all", help="Only the last checkpoint of each run, or all of them.")
]
