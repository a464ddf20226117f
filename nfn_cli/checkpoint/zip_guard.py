"""checkpoint/zip_guard.py: opening zip archives that may be hostile. Knows zip only; nothing is ever extracted to disk."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nfn_cli.errors import Refused
from nfn_cli.printable import printable

# Weights are close to random: even zeros rarely compress better than this in a real checkpoint.
_EXPANSION, _SLACK = 4, 64 << 20
_MAX_MEMBERS = 1_000_000
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, ValueError, EOFError, OverflowError)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose directory has been checked: sizes add up, no duplicates, no encryption, no bomb.

    Raises:
        Refused: the archive is damaged or claims more than it can hold.
    """
    with path.open("rb") as handle, checked_zip(handle, path.stat().st_size) as archive:
        yield archive


@contextmanager
def checked_zip(handle: BinaryIO, size: int) -> Iterator[zipfile.ZipFile]:
    """As `open_zip`, of an archive of `size` bytes that is already open or lies in memory."""
    try:
        archive = zipfile.ZipFile(handle)
    except (*_DAMAGED, OSError):
        raise damaged("the zip archive is cut short or damaged", "truncated") from None
    with archive:
        _check(archive, size)
        yield archive


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Content of one member; the directory has been checked, the checksum is checked here."""
    try:
        with archive.open(info) as member:
            content = member.read(info.file_size + 1)
    except (*_DAMAGED, OSError, RuntimeError):
        raise damaged("the zip member is damaged", "truncated", info.filename) from None
    if len(content) != info.file_size:
        raise damaged("the zip member has another size than its entry says", "truncated", info.filename)
    return content


def data_offset(handle: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member start in the file."""
    handle.seek(info.header_offset)
    local = handle.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise damaged("the zip member has no header of its own", "truncated", info.filename)
    name_length, extra_length = struct.unpack("<HH", local[26:30])
    return int(info.header_offset + 30 + name_length + extra_length)


def damaged(what: str, code: str, member: str = "") -> Refused:
    """The refusal for an archive that cannot be trusted."""
    return Refused(what, where=printable(member), fix="download or export the file again", code=code)


def _check(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise damaged(f"{len(members)} members are too many", "zip-bomb")
    if members and min(info.header_offset for info in members) > 0:
        # the end of a larger archive is cut off, and that of an archive within it was found
        raise damaged("the zip archive is cut short: what is left begins before its first member", "truncated")
    seen: set[str] = set()
    expanded = compressed = 0
    for info in members:
        if info.filename in seen:
            raise damaged("the zip archive names a member twice", "damaged-zip", info.filename)
        seen.add(info.filename)
        if info.flag_bits & 1:
            raise damaged("the zip member is encrypted", "encrypted", info.filename)
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise damaged("the zip member has two sizes", "damaged-zip", info.filename)
        expanded += info.file_size
        compressed += info.compress_size
    # Members that share bytes of the file are how small archives hold endless data.
    if compressed > size:
        raise damaged(f"the members claim {compressed} bytes in a file of {size}", "zip-bomb")
    if expanded > _EXPANSION * size + _SLACK:
        raise damaged(f"the members expand to {expanded} bytes from {size}", "zip-bomb")
