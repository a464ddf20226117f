"""cli/work_progress.py: what long work runs on, and a bar with the time left where a person watches. Imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from nfn_cli.zoo.training_run import Progress

Item = TypeVar("Item")
_PATIENCE = 1.0  # seconds before anything is shown: quick work has no bar


def bar(**how: Any) -> Any:
    """A bar on standard error with what is done, the time spent and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # answers that go to a file or a pipe must not be led to the terminal of the bar
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), **how)


def counted(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with a bar where a person watches and there is more than one."""
    if len(items) < 2 or not sys.stderr.isatty():
        yield from items
        return
    with bar(transient=True) as shown:
        yield from shown.track(items, description=what)


def tallied(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items, with how many there were so far where a person watches: for those that nobody has counted."""
    if not sys.stderr.isatty():
        yield from items
        return
    with bar(transient=True) as shown:
        task = shown.add_task(what, total=None)
        for number, item in enumerate(items, start=1):
            shown.update(task, description=f"{what}: {number:,} done")
            yield item


@contextmanager
def stages(what: str) -> Iterator[Callable[[int, int], None]]:
    """What is to be told how many of how many stages are done; a bar where a person watches."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with bar(transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A bar that only says how long it has taken, for work that does not tell how much is left; not for quick work."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Event, Thread

    ended = Event()

    def show() -> None:
        if ended.wait(_PATIENCE):
            return
        with bar(transient=True) as shown:
            shown.add_task(what, total=None)
            ended.wait()

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_STARTED: list[Any] = []


def take_bars_away() -> None:
    """Where work that shows a bar ended before its end: the terminal gets its line and its cursor back."""
    while _STARTED:
        _STARTED.pop().stop()


def work_progress(what: str) -> Progress:
    """For work whose units are told as they are done; where it does not come to its end, `take_bars_away` is for the rest.

    Args:
        what: the line before the bar; `{}` becomes the number of networks.
    """
    from nfn_cli.zoo.training_run import Progress

    if not sys.stderr.isatty():
        return Progress()

    class Shown(Progress):
        def __init__(self) -> None:
            # units differ in cost and end together: a long window keeps the estimate still
            self.bar = bar(speed_estimate_period=600)

        def begin(self, total: float, done: float, networks: int) -> None:
            _STARTED.append(self.bar)
            self.bar.start()
            self.task = self.bar.add_task(what.format(networks), total=total)
            self.bar.update(self.task, completed=done)

        def advance(self, work: float) -> None:
            self.bar.advance(self.task, work)

        def end(self) -> None:
            take_bars_away()

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
