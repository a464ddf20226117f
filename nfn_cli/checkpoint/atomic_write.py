"""checkpoint/atomic_write.py: a whole output file or none. Knows the file system and errors; no format."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nfn_cli.checkpoint.leftovers import alive, folder_alive, sweep, temporary_beside, unfinished
from nfn_cli.errors import NfnError, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_output(path: str | Path, force: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well.

    The bytes go to a temporary file in the same folder; at the end it is flushed to the disk and renamed. Whatever ends
    the block early, an interrupt included, removes the temporary file and leaves `path` as it was.

    Args:
        path: the output.
        force: whether a file already there is replaced.

    Raises:
        WrongUsage: the output exists and `force` is off, or it is a folder or a device.
        SurroundingsFailed: disk full, no permission, no such folder.
    """
    target = Path(path)
    check_output(target, force)
    sweep(target.parent)
    temporary = temporary_beside(target)
    # os.open and not tempfile: the mode is then what the user's umask says, as for any other new file
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with unfinished(temporary):
            descriptor = os.open(temporary, flags, 0o666)
            with alive(descriptor):
                with os.fdopen(descriptor, "w+b") as handle:
                    yield handle
                    handle.flush()
                    os.fsync(handle.fileno())
                _appear(temporary, target, force)
    except OSError as error:
        raise surroundings_failed(error, target) from None


@contextmanager
def atomic_folder(path: str | Path, force: bool = False, keep: bool = False) -> Iterator[Path]:
    """Make a folder that appears under `path` only when the block ends well; the block fills what it is given.

    Args:
        force: whether a folder already there is replaced. Without it an empty one may be there.
        keep: whether what the old folder holds beside the new content stays; then a folder may be there without `force`.

    Raises:
        SurroundingsFailed: disk full, no permission, no such folder.
        WrongUsage: a folder came to be there meanwhile.
    """
    target = Path(os.path.realpath(path))
    sweep(target.parent)
    temporary = temporary_beside(target)
    old = temporary.with_suffix(".old")
    try:
        with unfinished(temporary):
            temporary.mkdir()
            with folder_alive(temporary):
                yield temporary
                _replace_folder(temporary, target, old, force or keep)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise WrongUsage("the output exists", where=printable(target), code="output-exists") from None
        raise surroundings_failed(error, target) from None
    finally:
        if target.exists() and old.is_dir():
            if keep:
                _move_rest(old, target)
            shutil.rmtree(old, ignore_errors=True)


def _replace_folder(temporary: Path, target: Path, old: Path, replace: bool) -> None:
    if replace and os.path.lexists(target):
        target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)
        raise


def _move_rest(old: Path, target: Path) -> None:
    """What the old folder holds beside the new content; what cannot be moved stays in the old one."""
    for entry in old.iterdir():
        if not os.path.lexists(target / entry.name):
            entry.rename(target / entry.name)


def check_output(path: Path, force: bool) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Raises:
        WrongUsage, SurroundingsFailed: as `atomic_output`.
    """
    _check_writable(path.parent, path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise surroundings_failed(error, path) from None
    where = printable(path)
    if path.is_dir():
        raise WrongUsage("the output is a folder", where=where, fix="name a file in it", code="output-is-a-folder")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) or (path.exists() and not path.is_file()):
        raise WrongUsage("the output is not a regular file", where=where, code="output-not-a-file")
    if not force:
        raise WrongUsage("the output exists", where=where, fix="use --force to replace it", code="output-exists")


def check_output_folder(path: Path) -> None:
    """As `check_output`, of a folder that is made with its parents; one that is there may be filled.

    Raises:
        WrongUsage: something else has the name.
        SurroundingsFailed: it cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise WrongUsage("the output is no folder", where=printable(path), code="output-not-a-folder")
    target = Path(os.path.realpath(path))
    _check_writable(next(folder for folder in target.parents if folder.exists()), path)


def _check_writable(folder: Path, path: Path) -> None:
    """Raises SurroundingsFailed where no file can be made in `folder` for the output `path`."""
    if not folder.is_dir():
        raise surroundings_failed(OSError(errno.ENOENT, ""), path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise surroundings_failed(OSError(errno.EACCES, os.strerror(errno.EACCES)), path)


def surroundings_failed(error: OSError, path: Path) -> NfnError:
    """The error a user should see for a failing file system."""
    where, reason = printable(path), printable(error.strerror or error)
    if error.errno in _NO_SPACE:
        return SurroundingsFailed(
            f"the disk is full or the file too large ({reason})",
            where=where,
            fix="nothing was written",
            code="disk-full",
        )
    if error.errno in _NO_PERMISSION:
        return SurroundingsFailed(f"no permission ({reason})", where=where, code="permission")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SurroundingsFailed("the folder does not exist", where=where, fix="make it first", code="no-such-folder")
    return SurroundingsFailed(f"reading or writing failed ({reason})", where=where, code="input-output")


def _appear(temporary: Path, target: Path, force: bool) -> None:
    if force:
        os.replace(temporary, target)
    else:
        # A link fails where the name was taken meanwhile; a rename would silently replace it.
        try:
            os.link(temporary, target)
        except FileExistsError:
            check_output(target, force)
            raise
        except OSError:
            check_output(target, force)
            os.replace(temporary, target)
    with suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
