"""cli/work_progress.py: what long work runs on, and a bar with the time left where a person watches. Imports nothing heavy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nfn_cli.zoo.training_run import Progress


def work_progress(what: str) -> Progress:
    """For work whose units are told as they are done.

    Args:
        what: the line before the bar; `{}` becomes the number of networks.
    """
    from nfn_cli.zoo.training_run import Progress

    if not sys.stderr.isatty():
        return Progress()
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    class Shown(Progress):
        def __init__(self) -> None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            # units differ in cost and end together: a long window keeps the estimate still
            self.bar = Bar(*columns, console=Console(stderr=True), speed_estimate_period=600)

        def begin(self, total: float, done: float, networks: int) -> None:
            self.bar.start()
            self.task = self.bar.add_task(what.format(networks), total=total)
            self.bar.update(self.task, completed=done)

        def advance(self, work: float) -> None:
            self.bar.advance(self.task, work)

        def end(self) -> None:
            self.bar.stop()

    return Shown()


def device_of(name: str) -> str:
    """Raises WrongUsage for other words, SurroundingsFailed where there is no such device."""
    import torch

    from nfn_cli.errors import SurroundingsFailed, WrongUsage

    if name not in ("auto", "cpu", "cuda"):
        raise WrongUsage(f"{name!r} is not known", where="--device", fix="one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SurroundingsFailed("there is no CUDA device", where="--device", fix="use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def cores() -> int:
    """Cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
