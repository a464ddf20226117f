"""cli/session.py: the edge of the process: inputs in, exit code out, errors as one line on standard error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from nfn_cli.cli.jsonl import error_object, write_object
from nfn_cli.cli.streams import prepare_streams, say
from nfn_cli.errors import ExitCode, NfnError, Refused, SurroundingsFailed, WrongUsage


class Session:
    """One run of a command.

    Args:
        command: its name, for schemas.
        as_json: whether failures are also answered on standard output.
    """

    debug = False  # set by `nfn --debug`
    own_process = False  # whether the process is the command's own, or one that only calls it
    latest: Session | None = None

    def __init__(self, command: str, as_json: bool) -> None:
        self.command, self.as_json, self.code = command, as_json, 0
        self.path = ""  # the input that is worked on
        Session.latest = self
        if Session.own_process:
            from nfn_cli.cli.bus_error import answer_bus_errors

            answer_bus_errors(self._cut_short)

    def each(self, inputs: Sequence[str], handle: Callable[[str], None]) -> None:
        """Call `handle` for every input; a failed one does not stop the others."""
        from nfn_cli.cli.work_progress import counted

        paths = list(expanded(inputs))
        alone = len(paths) == 1
        for path in counted(paths, self.command):
            with self.watched(path) if alone else self.guarded(path):
                handle(path)

    @contextmanager
    def watched(self, path: str = "") -> Iterator[None]:
        """As `guarded`, with the time spent shown where a person waits."""
        from nfn_cli.cli.work_progress import waiting

        with self.guarded(path), waiting(self.command):
            yield

    @contextmanager
    def guarded(self, path: str = "") -> Iterator[None]:
        """Turn errors of one input into its answer."""
        self.path = path
        try:
            yield
        except NfnError as error:
            _take_bars_away()
            if Session.debug:
                raise
            self.fail(path, error)
        except MemoryError:
            _take_bars_away()
            self.fail(path, SurroundingsFailed("not enough memory", where=path, code="memory"))
        self.path = ""

    @contextmanager
    def collected(self, path: str, failed: dict[str, NfnError]) -> Iterator[None]:
        """Keep the error of one input for later, for commands that work on all inputs at once."""
        self.path = path
        try:
            yield
        except NfnError as error:
            failed[path] = error
        except MemoryError:
            failed[path] = SurroundingsFailed("not enough memory", where=path, code="memory")
        self.path = ""

    def fail(self, path: str, error: NfnError) -> None:
        self.code = max(self.code, int(error.exit_code))
        if self.as_json:
            write_object(error_object(self.command, path, error))
        say(f"error: {one_line(str(error))}")

    def _cut_short(self) -> int:
        """The answer to a bus error."""
        error = Refused(
            "a file that was being read became shorter, or its disk failed",
            where=self.path,
            fix="give it when it is no longer written to",
            code="truncated",
        )
        self.fail(self.path, error)
        return self.code

    def note(self, text: str) -> None:
        say(f"note: {one_line(text)}")

    def end(self) -> NoReturn:
        sys.stdout.flush()
        sys.exit(self.code)


def _take_bars_away() -> None:
    progress = sys.modules.get("nfn_cli.cli.work_progress")
    if progress is not None:
        progress.take_bars_away()


@contextmanager
def disturbed() -> Iterator[None]:
    """Interrupts and closed pipes, which end a command from outside."""
    try:
        yield
    except KeyboardInterrupt:
        _take_bars_away()
        say("interrupted")
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # the reader has what it wanted; keep the interpreter from flushing into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


# how batch systems end a job, and terminals that are closed their commands
_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind, so that no temporary file is left; the exit code is the one that shells give to such an end."""
    for each in _ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def process() -> Iterator[None]:
    """What no command handles: interrupts, closed pipes, errors before a session."""
    Session.own_process = True
    for number in _ENDINGS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        with disturbed():
            prepare_streams()
            yield
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough: what ends now is not to be disturbed
        elif end.code in [128 + number for number in _ENDINGS]:
            _take_bars_away()
            say("terminated")
        raise
    except NfnError as error:
        if Session.debug:
            raise
        if Session.latest is None:
            say(f"error: {one_line(str(error))}")
        else:  # it concerns no single input, but whoever reads answers is to read why there is none
            Session.latest.fail(Session.latest.path, error)
        sys.exit(int(error.exit_code))
    except OSError as error:  # standard output on a full disk, most likely: files say more of what happened to them
        if Session.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {one_line(where)}reading or writing failed ({one_line(error.strerror or str(error))})")
        sys.exit(ExitCode.SURROUNDINGS_FAILED)
    except Exception as error:
        if Session.debug:
            raise
        text = one_line(f"{type(error).__name__}: {error}")
        say(f"error: unexpected {text}; run again with nfn --debug for the traceback")
        sys.exit(ExitCode.SURROUNDINGS_FAILED)


def expanded(inputs: Sequence[str]) -> Iterator[str]:
    """`-` stands for a list on standard input, one input a line."""
    for entry in inputs:
        if entry != "-":
            yield entry
            continue
        lines = [line.strip() for line in sys.stdin or ()]  # None where it is closed
        found = [line for line in lines if line]
        if not found:
            raise WrongUsage("no input on standard input", code="no-input")
        yield from found


def one_line(text: str) -> str:
    from nfn_cli.printable import printable

    return printable(text, limit=1000)
