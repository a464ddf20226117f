"""checkpoint/leftovers.py: temporary files of outputs: their names, and what becomes of those of runs that are dead. No format.

A run that is killed cannot remove its temporary file. While it lives it holds a lock on it, which the system lets go whatever
ends the run; so the next run that writes into the folder can tell what is dead and removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks: leftovers stay
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)
_LOCKED_BY_THEN = 0.2  # seconds from the making of a temporary file to its lock, at most
_UNFINISHED: set[Path] = set()
_SWEPT: set[Path] = set()


def temporary_beside(target: Path) -> Path:
    """A new name in the folder of `target`."""
    short = target.name.encode("utf-8", "surrogateescape")[:80].decode("utf-8", "ignore")
    return target.parent / f".{short}.{os.getpid()}-{os.urandom(4).hex()}.tmp"


@contextmanager
def unfinished(temporary: Path) -> Iterator[None]:
    """While the block runs the file or folder under this name is ours; afterwards it is gone, whatever ended the block."""
    _UNFINISHED.add(temporary)
    try:
        yield
    finally:
        _remove(temporary)
        _UNFINISHED.discard(temporary)


def remove_unfinished() -> None:
    """For a process that ends without unwinding."""
    for temporary in tuple(_UNFINISHED):
        _remove(temporary)


@contextmanager
def alive(descriptor: int) -> Iterator[None]:
    """Show other runs, while the block runs, that the one that made a file is alive; it may close its descriptor meanwhile."""
    if fcntl is None:
        yield
        return
    lock = os.dup(descriptor)
    try:
        with suppress(OSError):  # a file system without locks: nobody can take it for dead there
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def folder_alive(folder: Path) -> Iterator[None]:
    """As `alive`, of a folder."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with alive(descriptor):
            yield
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what dead runs left in a folder; looks once a process."""
    if fcntl is None or folder in _SWEPT:
        return
    _SWEPT.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _NAME.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_if_dead(folder / name)


def _remove_if_dead(path: Path) -> None:
    found = os.lstat(path)
    is_folder = stat.S_ISDIR(found.st_mode)
    if time.time() - found.st_ctime < _LOCKED_BY_THEN or not (is_folder or stat.S_ISREG(found.st_mode)):
        return
    access = os.O_RDONLY if is_folder else os.O_RDWR  # some network file systems lock for writers only
    handle = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
