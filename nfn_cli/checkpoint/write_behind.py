"""checkpoint/write_behind.py: a file written by a thread of its own while the next pieces are computed. Knows bytes, no format.

The disk has work from the first piece on: what was written is flushed to it every now and then, so that the last flush, without
which no output appears, finds little left.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from concurrent.futures import Future

_WAITING = 2  # pieces that may wait to be written
_FLUSHED = 1 << 26  # bytes between two flushes
_to_disk = getattr(os, "fdatasync", os.fsync)


def write_behind(handle: BinaryIO, pieces: Iterable[memoryview]) -> None:
    """Write all pieces, in their order; at most two wait in memory beside the one that is being written.

    Raises:
        OSError: what the first write or flush that failed raised; whatever `pieces` raises. Nothing writes any more then.
    """
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[None]] = deque()
    unflushed, threads = 0, True
    with ThreadPoolExecutor(1) as writer:
        try:
            for piece in pieces:
                unflushed += len(piece)
                flush, unflushed = unflushed >= _FLUSHED, unflushed % _FLUSHED
                try:
                    if threads:
                        waiting.append(writer.submit(_write, handle, piece, flush))
                except RuntimeError:  # no more threads for this user: only the first submit starts one
                    threads = False
                if not threads:
                    _write(handle, piece, flush)
                del piece
                while len(waiting) > _WAITING or (waiting and waiting[0].done()):
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _write(handle: BinaryIO, piece: memoryview, flush: bool) -> None:
    handle.write(piece)
    if flush:
        handle.flush()
        _to_disk(handle.fileno())
