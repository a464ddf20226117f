"""cli/train_options.py: options that the commands of `nfn train` share. Imports typer only: help must be fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the predictor.", show_default=False)]
Name = Annotated[Optional[str], typer.Option("--name", help="On the card.  [default: the folder's]")]  # noqa: UP045
Work = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--work", help="Folder for the log and checkpoints; a killed training resumes there."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="More may change the last digits.")]


def check_folders(output: Path, work: Path | None) -> None:
    """Before hours of training: whether the predictor can be written, and the folder of checkpoints is there.

    Raises:
        WrongUsage, SurroundingsFailed: one of them cannot be made.
    """
    from nfn_cli.checkpoint.atomic_write import check_output_folder, surroundings_failed

    check_output_folder(output)
    if work is not None:
        check_output_folder(work)
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise surroundings_failed(error, work) from None
