"""checkpoint/mapped_tensors.py: tensors of large files, mapped a window at a time. Knows files and spans; no format.

Under a limit on addresses (`ulimit -v`) a file larger than the limit cannot be mapped whole. Tensors that stand one after another
share a window; of the windows of a file only the latest used stay mapped. A small file is one window.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import Refused

WINDOW = 1 << 25  # bytes; a larger tensor has a window of its own
_KEPT = 1 << 27  # bytes of windows that stay mapped


@dataclass(frozen=True)
class Span:
    """Where a tensor lies in a file: bytes [start, stop)."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


class RecentWindows:
    """Which windows of one or several files stay mapped: the latest used."""

    def __init__(self) -> None:
        self._bytes: OrderedDict[tuple[MappedFile, int], int] = OrderedDict()

    def used(self, file: MappedFile, number: int, size: int) -> None:
        self._bytes[file, number] = size
        self._bytes.move_to_end((file, number))
        while len(self._bytes) > 1 and sum(self._bytes.values()) > _KEPT:
            (other, least), _ = self._bytes.popitem(last=False)
            other.forget(least)


class MappedFile:
    """Read-only arrays of one file, by the names of its spans.

    Args:
        size: of the file when its header was read; the file is refused when it is another one later.
        recent: shared by files that are read together.
    """

    def __init__(self, path: Path, spans: Mapping[str, Span], size: int, recent: RecentWindows) -> None:
        self._spans, self._size, self._recent = spans, size, recent
        self._windows = _windows_of(spans)
        self._window_of = {name: number for number, window in enumerate(self._windows) for name in window}
        self._mapped: dict[int, dict[str, Array]] = {}
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        close = weakref.finalize(self, os.close, self._handle)
        if len(self._windows) < 2:
            for number in range(len(self._windows)):
                self._mapped[number] = self._map(self._windows[number])
            close()  # a map holds its file by itself: many small files open at once need one handle each

    def __getitem__(self, name: str) -> Array:
        number = self._window_of[name]
        if len(self._windows) > 1:
            if number not in self._mapped:
                self._mapped[number] = self._map(self._windows[number])
            names = self._windows[number]
            self._recent.used(self, number, self._spans[names[-1]].stop - self._spans[names[0]].start)
        return self._mapped[number][name]

    def forget(self, number: int) -> None:
        """Let a window go; arrays in use hold it by themselves."""
        del self._mapped[number]

    def _map(self, names: list[str]) -> dict[str, Array]:
        if os.fstat(self._handle).st_size != self._size:
            raise Refused("the file changed while it was read", fix="try again", code="truncated")
        spans = [self._spans[name] for name in names]
        first = spans[0].start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = spans[-1].stop - first
        raw = _mapped(self._handle, first, length) if length else b""
        return {
            name: np.ndarray(span.shape, span.dtype, buffer=raw, offset=span.start - first)
            for name, span in zip(names, spans, strict=True)
        }


def _mapped(handle: int, first: int, length: int) -> mmap.mmap:
    try:
        return mmap.mmap(handle, length, access=mmap.ACCESS_READ, offset=first)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        raise


class MappedTensors(Mapping[str, Array]):
    """Tensors of one or several mapped files under new names; each is mapped when it is asked for.

    Args:
        places: name -> (file, name in the file).
    """

    def __init__(self, places: Mapping[str, tuple[MappedFile, str]]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Array:
        file, stored = self._places[name]
        return file[stored]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _windows_of(spans: Mapping[str, Span]) -> list[list[str]]:
    """Names in the order of the file, cut where a window would become too large."""
    windows: list[list[str]] = []
    start = 0
    for name in sorted(spans, key=lambda name: (spans[name].start, spans[name].stop)):
        if not windows or spans[name].stop - start > WINDOW:
            windows.append([])
            start = spans[name].start
        windows[-1].append(name)
    return windows
