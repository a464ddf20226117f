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
