"""zoo/worker_processes.py: processes that leave Ctrl-C to the one that started them, and clean up when they are ended. No work.

A terminal sends Ctrl-C to all processes of a command. One that works for another would answer with a traceback of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes and threads that are started in the block are not interrupted; here an interrupt comes when it ends."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:
        yield
        return
    before = mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


def end_in_order() -> None:
    """For a process that was started so: being told to end, it unwinds, so that no temporary file is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the unwinding is not to be disturbed
    raise SystemExit(128 + number)
