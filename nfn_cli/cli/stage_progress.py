"""cli/stage_progress.py: how far a training is: a line a stage on standard error. Imports nothing heavy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def stage_progress() -> Callable[[str, int, int], None] | None:
    """One line a stage where a person watches, with the time left; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    start = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        spent = time.monotonic() - start
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        print(f"{stage}: {done} of {total}{left}", file=sys.stderr)

    return show
