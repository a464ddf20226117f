"""checkpoint/packed_file.py: files that were compressed as a whole, as joblib and gzip do. Knows streams of bytes; no content.

They are unpacked in memory and only as far as a file of their size may go: a few kilobytes can stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused

PACKINGS = ("gzip", "zlib", "bzip2", "xz", "lzma")
_ROOM = 128 << 20  # bytes; and twice the file
_PIECE = 1 << 20
_LEVEL = 3  # joblib's, where a number is not given


def unpacked(path: Path, packing: str) -> bytes:
    """What the file held before it was packed.

    Raises:
        Refused: damaged ("truncated"), or far larger than files of weights become ("zip-bomb").
    """
    most = 2 * path.stat().st_size + _ROOM
    decoder, found = _decoder(packing), bytearray()
    with path.open("rb") as handle:
        try:
            while not decoder.eof:
                # what the decoder keeps for later is asked for before more is read
                waiting = getattr(decoder, "unconsumed_tail", b"")
                hungry = getattr(decoder, "needs_input", not waiting)
                piece = handle.read(_PIECE) if hungry else waiting
                if hungry and not piece:
                    raise EOFError
                found += decoder.decompress(piece, _PIECE)
                if len(found) > most:
                    raise Refused(
                        f"{path.stat().st_size} bytes that unpack to more than {most}",
                        fix="unpack it first",
                        code="zip-bomb",
                    )
        except _errors():
            raise Refused("the compressed file is damaged", fix="download it again", code="truncated") from None
    return bytes(found)


def packed(content: bytes, packing: str) -> bytes:
    """Packed in the same way; the same content gives the same bytes."""
    return _pack(packing)(content)


def _errors() -> tuple[type[Exception], ...]:
    import lzma
    import zlib

    return OSError, EOFError, ValueError, zlib.error, lzma.LZMAError


def _decoder(packing: str) -> Any:
    import bz2
    import lzma
    import zlib

    make: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "zlib": lambda: zlib.decompressobj(),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_ROOM),
        "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_ROOM),
    }
    return make[packing]()


def _pack(packing: str) -> Callable[[bytes], bytes]:
    import bz2
    import gzip
    import lzma
    import zlib

    return {
        "gzip": lambda data: gzip.compress(data, _LEVEL, mtime=0),
        "zlib": lambda data: zlib.compress(data, _LEVEL),
        "bzip2": lambda data: bz2.compress(data, _LEVEL),
        "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, preset=_LEVEL),
        "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=_LEVEL),
    }[packing]
