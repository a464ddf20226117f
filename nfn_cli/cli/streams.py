"""cli/streams.py: standard output and error as they were given: closed, full, or with few letters. Knows no command."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def prepare_streams() -> None:
    """Make any text writable, and errors tellable.

    Raises:
        SurroundingsFailed: standard output is closed (code "no-output"); a file that is opened later would take its place.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 — for as long as the process lives
    if sys.stdout is None:
        from nfn_cli.errors import SurroundingsFailed

        raise SurroundingsFailed(
            "standard output is closed", fix="lead it to a file, or to /dev/null", code="no-output"
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """One line on standard error; where that cannot be written the exit code has to do."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
