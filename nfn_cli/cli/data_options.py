"""cli/data_options.py: options of commands that run aligned networks on data. Imports typer only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli.options import words
from nfn_cli.errors import WrongUsage

ALIGNING = "How to align"
_RUNNING = "How to run"

BatchNormData = Annotated[
    Optional[Path],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
    typer.Option(
        "--batch-norm-data",
        metavar="DATA",
        help="What batch norm statistics are measured on, such as training images; default: --data.",
        show_default=False,
        rich_help_panel=_RUNNING,
    ),
]
BatchNorm = Annotated[
    str,
    typer.Option(
        "--batch-norm",
        metavar="recompute|average",
        help="Measure the running statistics again on data, or average them like weights.",
        autocompletion=words("recompute", "average"),
        rich_help_panel=_RUNNING,
    ),
]
Pixels = Annotated[
    tuple[float, float],
    typer.Option("--pixels", metavar="LOW HIGH", help="What 0 and 255 become.", rich_help_panel=_RUNNING),
]
Rows = Annotated[int, typer.Option("--rows", help="Inputs to run at most.", min=1, rich_help_panel=_RUNNING)]
Restarts = Annotated[
    int,
    typer.Option(
        "--restarts",
        help="Further searches from random elements; the best one counts.",
        min=0,
        rich_help_panel=ALIGNING,
    ),
]
Match = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="weights|activations",
        help="Match units by their weights, or by their responses to the data that batch norm statistics are measured on.",
        autocompletion=words("weights", "activations"),
        rich_help_panel=ALIGNING,
    ),
]


def numbers(text: str | None, option: str) -> list[float] | None:
    """Numbers with commas between them.

    Raises:
        WrongUsage: something else.
    """
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise WrongUsage(
            f"{text!r} are not numbers with commas between them", where=option, fix="for example 0.5,0.3,0.2"
        ) from None
