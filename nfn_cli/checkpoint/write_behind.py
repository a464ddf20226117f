"""checkpoint/write_behind.py: a file written, and flushed to its disk, while the next pieces are computed. Knows bytes, no format.

The disk has work from the first piece on, so that the last flush, without which no output appears, finds little left. Threads
are started, asked and awaited by calls that an interrupt cannot leave half done, which those of `threading` can be: Ctrl-C in
the midst of a `Condition` leaves its lock taken, and who waits for it waits for ever.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, BinaryIO

_WAITING = 2  # pieces that may wait to be written
_FLUSHED = 1 << 25  # bytes between two flushes, at least
_to_disk = getattr(os, "fdatasync", os.fsync)


class _Worker:
    """A thread that does one thing after another, none after one that failed.

    Attributes:
        owed: how many things were asked for whose answer was not taken.
    """

    def __init__(self) -> None:
        """Raises RuntimeError where the user may have no more threads."""
        self.owed = 0
        self._asked: SimpleQueue[tuple[Callable[..., Any], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[BaseException | None] | None] = SimpleQueue()
        self._stopped = False
        start_new_thread(self._work, ())

    def _work(self) -> None:
        for function, argument in iter(self._asked.get, None):
            error = None
            if not self._stopped:
                try:
                    function(argument)
                except BaseException as caught:
                    error, self._stopped = caught, True
            del function, argument
            self._answers.put((error,))
        self._answers.put(None)

    def ask(self, function: Callable[[Any], Any], argument: Any) -> None:
        self._asked.put((function, argument))
        self.owed += 1

    @property
    def answered(self) -> bool:
        """Whether an answer can be taken at once."""
        return not self._answers.empty()

    def answer(self) -> None:
        """Wait for the oldest thing asked for; raises what it raised."""
        answer = self._answers.get()
        self.owed -= 1
        if answer and answer[0]:
            raise answer[0]

    def stop(self) -> None:
        """Leave undone what was not begun, and wait for the end of the thread."""
        self._stopped = True
        self._asked.put(None)
        while self._answers.get():  # not by the number owed, which an interrupt may have left wrong
            pass


def write_behind(handle: BinaryIO, pieces: Iterable[memoryview]) -> None:
    """Write all pieces, in their order; at most two wait in memory beside the one that is being written.

    Raises:
        OSError: what the first write or flush that failed raised; whatever `pieces` raises. Nothing writes any more then.
    """
    workers: list[_Worker] = []
    try:
        try:
            workers += [_Worker(), _Worker()]
        except RuntimeError:
            handle.writelines(pieces)
        else:
            _written(handle, pieces, *workers)
    finally:
        for worker in workers:
            worker.stop()


def _written(handle: BinaryIO, pieces: Iterable[memoryview], writer: _Worker, flusher: _Worker) -> None:
    unflushed = 0
    for piece in pieces:
        unflushed += len(piece)
        writer.ask(handle.write, piece)
        del piece
        while writer.owed > _WAITING or (writer.owed and writer.answered):
            writer.answer()
        # a failed flush is told once: the last one, of whoever opened the file, would not hear of it again
        if flusher.owed and flusher.answered:
            flusher.answer()
        if unflushed >= _FLUSHED and not flusher.owed:
            flusher.ask(_to_disk, handle.fileno())
            unflushed = 0
    for worker in (writer, flusher):
        while worker.owed:
            worker.answer()
