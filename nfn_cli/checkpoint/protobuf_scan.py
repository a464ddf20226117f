"""checkpoint/protobuf_scan.py: heads of protobuf fields: enough to tell ONNX from others and to bound it. Runs nothing.

Specification: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_MAX_FIELDS = 100_000

Field = tuple[int, int, int]  # field number, wire type, value or length
Schema = Mapping[str, Mapping[int, str]]


def top_level_fields(path: Path) -> list[Field] | None:
    """(field number, wire type, value or length) of each top-level field; None where the file is no protobuf.

    Only the heads of fields are read, so the size of the file does not matter.
    """
    size = path.stat().st_size
    fields: list[Field] = []
    with path.open("rb") as handle:
        while handle.tell() < size:
            field = _head(handle) if len(fields) < _MAX_FIELDS else None
            if field is None:
                return None
            fields.append(field)
            if field[1] != 0:
                handle.seek(field[2], 1)
                if handle.tell() > size:
                    return None
    return fields


def count_fields(path: Path, schema: Schema, root: str, limit: int) -> int | None:
    """How many fields the message and the messages in it have; None where it is cut short. Stops beyond `limit`.

    A parser makes objects many times larger than an empty message in a file, so a stranger's file is counted first.

    Args:
        schema: name of a message -> field number -> name of the message that the field holds.
        root: name of the message that the file is.
    """
    with path.open("rb") as handle:
        ends = [(path.stat().st_size, root)]
        count = 0
        for number, wire, value in _fields(handle, ends):
            count += 1
            if count > limit:
                return count
            inner = schema.get(ends[-1][1], {}).get(number) if wire == 2 else None
            if wire == 0:
                continue
            stop = handle.tell() + value
            if stop > ends[-1][0]:
                return None
            if inner is not None:
                ends.append((stop, inner))
            else:
                handle.seek(stop)
        return count if not ends else None


def _fields(handle: BinaryIO, ends: list[tuple[int, str]]) -> Iterator[Field]:
    """Fields of the innermost open message; messages that end are closed."""
    while ends:
        while ends and handle.tell() == ends[-1][0]:
            ends.pop()
        if ends:
            field = _head(handle)
            if field is None or handle.tell() > ends[-1][0]:
                return
            yield field


def _head(handle: BinaryIO) -> Field | None:
    tag = _varint(handle)
    if tag is None or tag >> 3 == 0:
        return None
    number, wire = tag >> 3, tag & 7
    value = _varint(handle) if wire in (0, 2) else {1: 8, 5: 4}.get(wire)
    return None if value is None else (number, wire, value)


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
