"""fuzz_bytes.py: changes to bytes that know no form, and the odd names and numbers that all changes draw from."""

from __future__ import annotations

import copy
import random
import struct
from typing import Any

NAMES = [
    "weight",
    "bias",
    "fc1.weight",
    "module.fc1.weight",
    "running_var",
    "lstm.weight_ih_l0",
    "../../x",
    "/etc/passwd",
    "",
]
NAMES += [
    "a\x1b[31m",
    "\u202eevil",
    "x\ny",
    "\0",
    "é" * 300,
    "__metadata__",
    "0",
    "conv1.weight_g",
    "CONSTANTS.c0",
    "\ud800",
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**64,
    -(2**63),
    10**30,
]
JUNK: list[Any] = [None, True, 1.5, 1e308, -0.0, "", "x", [], {}, [1], [[]], {"a": 1}, *NUMBERS, *NAMES]
DTYPES = [
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F4",
    "C64",
    "<f4",
    "<f8",
    "|O",
    "<U5",
    ">f4",
    "<f4,<f4",
]


def junk(draw: random.Random) -> Any:
    """One of JUNK, as a value of its own: what is changed in it later is changed in it alone."""
    return copy.deepcopy(draw.choice(JUNK))


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(out) + 1)
        end = min(len(out), at + draw.choice([1, 2, 4, 8, 64, 1000]))
        match draw.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                out[at : at + 8] = struct.pack("<q", draw.choice([n for n in NUMBERS if -(2**63) <= n < 2**63]))
            case 2:
                del out[at:end]
            case 3:
                out[at:at] = out[at:end]
            case 4:
                out[at:end] = draw.randbytes(end - at)
            case 5:
                del out[at:]
            case _:
                out[at:at] = draw.randbytes(draw.choice([1, 4, 100]))
    return bytes(out)
