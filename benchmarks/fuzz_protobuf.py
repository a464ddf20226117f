"""fuzz_protobuf.py: changes to fields of protobuf messages, at any depth. Knows the wire format only."""

from __future__ import annotations

import random

from fuzz_bytes import NAMES, NUMBERS, changed_bytes


def fields_of(data: bytes) -> list[tuple[int, int, bytes]] | None:
    """(number, wire type, content) of a message; None where it is none."""
    found, at = [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if at < 0 or number == 0:
            return None
        if wire == 0:
            start = at
            _, at = _varint(data, at)
            content = data[start:at] if at > 0 else b""
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            content, at = data[at : at + width], at + width
        elif wire == 2:
            length, at = _varint(data, at)
            content, at = data[at : at + length], at + length
        else:
            return None
        if at < 0 or at > len(data):
            return None
        found.append((number, wire, content))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if not 0 <= at < len(data):
            return 0, -1
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return 0, -1


def _spelled(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(fields: list[tuple[int, int, bytes]]) -> bytes:
    parts = []
    for number, wire, content in fields:
        parts += [_spelled(number << 3 | wire), _spelled(len(content)) if wire == 2 else b"", content]
    return b"".join(parts)


def changed_protobuf(data: bytes, draw: random.Random) -> bytes:
    """One field, at any depth, changed; lengths above it are right again."""
    fields = fields_of(data) if len(data) < 1 << 20 else None
    if not fields:
        return changed_bytes(data, draw) if draw.random() < 0.5 else draw.choice(NAMES).encode("utf-8", "replace")
    at = draw.randrange(len(fields))
    number, wire, content = fields[at]
    match draw.randrange(10):
        case 0:
            del fields[at]
        case 1:
            fields.append(fields[at])
        case 2:
            fields[at] = (draw.randrange(1, 30), wire, content)
        case 3:
            fields[at] = (number, wire, draw.choice(fields)[2] if wire == 2 else content)
        case _ if wire == 0:
            fields[at] = (
                number,
                0,
                _spelled(draw.choice(NUMBERS) % 2**64 if draw.random() < 0.5 else draw.randrange(30)),
            )
        case _ if wire == 2:
            fields[at] = (number, 2, changed_protobuf(content, draw))
        case _:
            fields[at] = (number, wire, draw.randbytes(len(content)))
    return _message(fields)
