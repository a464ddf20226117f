"""checkpoint/protobuf_scan.py: the top-level fields of a protobuf message, enough to tell ONNX from others. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_MAX_FIELDS = 100_000


def top_level_fields(path: Path) -> list[tuple[int, int, int]] | None:
    """(field number, wire type, value or length) of each top-level field; None where the file is no protobuf.

    Only the heads of fields are read, so the size of the file does not matter.
    """
    size = path.stat().st_size
    fields: list[tuple[int, int, int]] = []
    with path.open("rb") as handle:
        while handle.tell() < size:
            if len(fields) >= _MAX_FIELDS:
                return None
            tag = _varint(handle)
            if tag is None or tag >> 3 == 0:
                return None
            number, wire = tag >> 3, tag & 7
            value = _varint(handle) if wire in (0, 2) else {1: 8, 5: 4}.get(wire)
            if value is None:
                return None
            fields.append((number, wire, value))
            if wire != 0:
                handle.seek(value, 1)
                if handle.tell() > size:
                    return None
    return fields


def _varint(handle: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = handle.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
