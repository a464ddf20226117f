"""fuzz_control.py: a branch for each byte of a word, which only changes guided by coverage can find."""

from __future__ import annotations


def word(data: bytes) -> bool:
    """Whether the bytes begin with it; every right byte is a branch further in."""
    if len(data) < 6:
        return False
    if data[0] ^ 0x5A != 0x1D:
        return False
    if (data[1] * 7) % 251 != 93:
        return False
    if data[2] + data[0] != 0x9B:
        return False
    if (data[3] * 11) % 241 != 200:
        return False
    if data[4] ^ data[1] != 0x33:
        return False
    return (data[5] * 13) % 239 == 17
