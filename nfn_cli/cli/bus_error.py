"""cli/bus_error.py: the last word of a process whose mapped file became shorter than it was. Knows signals and temporary files.

Reading what a mapped file no longer holds, or what its disk cannot read, makes the system send SIGBUS to the thread that reads.
Python's own handlers run between instructions and the reading instruction would only be tried again, so this one is called by
the system itself, in the midst of that instruction, and does not return.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

_KEPT: list[Any] = []  # what the system calls must not be collected


def answer_bus_errors(answer: Callable[[], int]) -> None:
    """From now on a bus error ends the process with what `answer` says it ends with; no temporary file is left.

    Args:
        answer: tells the user and returns the exit code.
    """
    number = getattr(signal, "SIGBUS", None)
    if number is None or _KEPT:
        return
    import ctypes

    def last_word(_: int) -> NoReturn:
        code = int(128 + number)
        try:
            from nfn_cli.checkpoint.leftovers import remove_unfinished

            remove_unfinished()
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
            code = answer()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(last_word)
    install = ctypes.CDLL(None).signal
    install.restype, install.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    _KEPT.append(handler)
    install(number, ctypes.cast(handler, ctypes.c_void_p))
