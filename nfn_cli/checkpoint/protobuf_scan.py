"""checkpoint/protobuf_scan.py: heads of protobuf fields: enough to tell ONNX from others and to bound it. Runs nothing.

Specification: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_MAX_FIELDS = 100_000
_FIXED = {1: 8, 5: 4}  # wire type -> bytes

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
                if field[2] > size:
                    return None
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
    size = path.stat().st_size
    if not size:
        return 0
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _counted(data, size, schema, root, limit)
        except (IndexError, _CutShort):
            return None


class _CutShort(Exception):
    """A field reaches beyond the message that holds it."""


def _counted(data: mmap.mmap, size: int, schema: Schema, root: str, limit: int) -> int:
    """Depth first, with a stack in place of recursion: strangers nest as deep as they like."""
    ends, at, count = [(size, schema.get(root, {}))], 0, 0
    while ends:
        end, inner = ends[-1]
        if at >= end:
            if at > end:
                raise _CutShort
            ends.pop()
            continue
        count += 1
        if count > limit:
            return count
        tag, at = _number(data, at)
        wire = tag & 7
        if wire == 2:
            length, at = _number(data, at)
            if length > end - at:
                raise _CutShort
            name = inner.get(tag >> 3)
            if name is None:
                at += length
            else:
                ends.append((at + length, schema.get(name, {})))
        elif wire == 0:
            _, at = _number(data, at)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise _CutShort
    return count


def _number(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A varint, and the place behind it."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise _CutShort


def _head(handle: BinaryIO) -> Field | None:
    tag = _varint(handle)
    if tag is None or tag >> 3 == 0:
        return None
    number, wire = tag >> 3, tag & 7
    value = _varint(handle) if wire in (0, 2) else _FIXED.get(wire)
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
