"""checkpoint/zip_patch.py: a zip archive again with other bytes in some stored members, every other byte as it was.

Knows the zip format (APPNOTE 4.3, 4.4), no content. Lengths stay, so only data and checksums change.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO

from nfn_cli.checkpoint.zip_guard import damaged, data_offset
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_PIECE = 1 << 20
_DESCRIPTOR = 0x08  # flag: the checksum stands behind the data, not before it


def patch_zip(
    source: BinaryIO, archive: zipfile.ZipFile, target: BinaryIO, changed: Iterable[tuple[str, bytes]]
) -> None:
    """Copy the archive and replace what the named members hold.

    Args:
        source: the file that `archive` reads.
        changed: members and their new bytes, as many as before.

    Raises:
        Refused: a member is compressed (code "compressed-member"), or the directory is damaged.
    """
    source.seek(0)
    while piece := source.read(_PIECE):
        target.write(piece)
    entries = _directory_entries(source, archive)
    for name, data in changed:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise Refused(
                "the weights are compressed in the archive",
                where=printable(name),
                fix="save it again with torch",
                code="compressed-member",
            )
        start = data_offset(source, info)
        assert len(data) == info.file_size
        checksum = struct.pack("<I", zlib.crc32(data))
        target.seek(start)
        target.write(data)
        target.seek(entries[name] + 16)
        target.write(checksum)
        if not info.flag_bits & _DESCRIPTOR:
            target.seek(info.header_offset + 14)
            target.write(checksum)
            continue
        source.seek(start + len(data))
        signed = source.read(4) == b"PK\x07\x08"
        target.seek(start + len(data) + (4 if signed else 0))
        target.write(checksum)
    target.seek(0, 2)


def _directory_entries(source: BinaryIO, archive: zipfile.ZipFile) -> dict[str, int]:
    """Member -> where its entry of the central directory starts."""
    found, position = {}, archive.start_dir
    for info in archive.infolist():
        source.seek(position)
        entry = source.read(46)
        if len(entry) < 46 or entry[:4] != b"PK\x01\x02":
            raise damaged("the directory of the zip archive is damaged", "damaged-zip", info.filename)
        found[info.filename] = position
        position += 46 + sum(struct.unpack("<HHH", entry[28:34]))
    return found
