"""fuzz_pickles.py: changes to the opcodes of a pickle. Runs no pickle."""

from __future__ import annotations

import itertools
import pickletools
import random
import struct
from typing import Any

from fuzz_bytes import NAMES, NUMBERS, changed_bytes

GLOBALS = [
    "os system",
    "builtins eval",
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
]
GLOBALS += [
    "torch LongStorage",
    "torch._utils _rebuild_parameter",
    "torch.nn.modules.linear Linear",
    "posix system",
    "a\x1b[1m b",
]
OPCODES = [
    b"N",
    b"K\x05",
    b"]",
    b"}",
    b")",
    b"(",
    b"0",
    b"2",
    b"\x85",
    b"\x86",
    b"R",
    b"b",
    b"t",
    b"s",
    b"u",
    b"Q",
    b".",
    b"\x94",
]
OPCODES += [
    b"h\x00",
    b"q\x00",
    b"j\xff\xff\xff\x7f",
    b"r\xff\xff\xff\x7f",
    b"\x8a\x09" + b"\xff" * 8 + b"\x7f",
    b"\x8f",
    b"\x93",
]


def changed_pickle(data: bytes, draw: random.Random) -> bytes:
    """Opcodes left out, repeated, replaced; other numbers, names and classes. What follows the first pickle stays."""
    try:
        found = list(pickletools.genops(data))
    except Exception:
        return changed_bytes(data, draw)
    starts = [position for _, _, position in found] + [found[-1][2] + 1]
    pieces = [data[a:b] for a, b in itertools.pairwise(starts)]
    for _ in range(draw.choice([1, 1, 1, 3])):
        at = draw.randrange(len(pieces))
        name, argument = found[at][0].name, found[at][1]
        match draw.randrange(8):
            case 0:
                pieces[at] = b""
            case 1:
                pieces[at] *= 2
            case 2:
                pieces[at] = draw.choice(OPCODES)
            case 3:
                pieces[at] += draw.choice(OPCODES)
            case 4:
                pieces[at] = draw.choice(pieces)
            case _:
                pieces[at] = _other_argument(name, argument, pieces[at], draw)
    return b"".join(pieces) + data[starts[-1] :]


def _other_argument(name: str, argument: Any, piece: bytes, draw: random.Random) -> bytes:
    if name in ("GLOBAL", "INST"):
        module, _, attribute = draw.choice(GLOBALS).partition(" ")
        return b"c" + f"{module}\n{attribute}\n".encode()
    if isinstance(argument, str):
        text = draw.choice([*NAMES, argument + "x", "cuda:0", "0", "1"]).encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(argument, int) and name.startswith(("BININT", "LONG")):
        return b"J" + struct.pack("<i", draw.choice([n for n in NUMBERS if abs(n) < 2**31] + [argument % 99 + 1]))
    if isinstance(argument, int):
        return b"h" + bytes([draw.randrange(256)])
    return changed_bytes(piece, draw)
