"""match/fingerprint_code.py: from statistics to a short code, and how far two codes are apart. Numbers only.

Each bit is one half-period of a random projection of the statistics (locality-sensitive codes of shift-invariant kernels,
Raginsky and Lazebnik 2009): the expected share of bits that differ depends on the distance of the statistics alone, grows
with it, and ends at one half. No population has to be known, as it would be for signs of centred projections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.match.fingerprint_plan import Array, uniform
from nfn_cli.symmetry.axis import mix
from nfn_cli.symmetry.element import FloatArray

BITS = 256
# Codes of one network in float32, float16 and bfloat16 differ in fewer bits, those of different ones in more.
RADIUS = 24
_PERIOD = 1.0
_VERSION = "2"
_TEXT = re.compile(r"([0-9]+)-([0-9a-f]{16})-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A code of one network.

    Attributes:
        architecture: 16 hexadecimal digits; networks of different ones are never the same.
        bits: 32 bytes.
    """

    architecture: str
    bits: bytes

    def __str__(self) -> str:
        return f"{_VERSION}-{self.architecture}-{self.bits.hex()}"

    def distance(self, other: Fingerprint) -> int | None:
        """Number of bits that differ, 0 to 256; None between architectures."""
        if self.architecture != other.architecture:
            return None
        return (int.from_bytes(self.bits, "big") ^ int.from_bytes(other.bits, "big")).bit_count()

    def same_network(self, other: Fingerprint, radius: int = RADIUS) -> bool:
        """Whether both are, as far as codes can tell, one network up to its group and rounding."""
        distance = self.distance(other)
        return distance is not None and distance <= radius


def looks_like_one(text: str) -> bool:
    """Whether a text is a fingerprint of some version, and not a path."""
    return _TEXT.fullmatch(text.strip()) is not None


def fingerprint_from(text: str) -> Fingerprint:
    """The inverse of `str`.

    Raises:
        Refused: it is no fingerprint, or one of another version.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or match[1] != _VERSION:
        raise Refused("not a fingerprint of this version", fix="nfn fingerprint prints one", code="not-a-fingerprint")
    return Fingerprint(match[2], bytes.fromhex(match[3]))


def codes(statistics: FloatArray) -> Array:
    """(networks, statistics) -> (networks, 32) bytes."""
    size = statistics.shape[1]
    projected = statistics @ _directions(size) / (max(size, 1) ** 0.5 * _PERIOD)
    halves = np.floor(2 * (projected + uniform(mix(np.arange(BITS), 5)))).astype(np.int64)
    return np.packbits((halves & 1).astype(np.uint8), axis=1)


def _directions(size: int) -> FloatArray:
    """(statistics, bits) of ±1: from a hash of our own, so that they are the same with every library."""
    hashes = mix(np.arange(size)[:, None], np.arange(BITS)[None, :])
    return np.where(hashes >> np.uint64(63) == 0, 1.0, -1.0)
