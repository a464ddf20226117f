"""cli/network_picture/colours.py: a colour for each unit set, and for the spread of norms. Numbers in, hexadecimal out."""

from __future__ import annotations

from colorsys import hls_to_rgb

FIXED = "#b8b8b8"
DEAD, CONSTANT, DUPLICATE = "#000000", "#8c2d04", "#6a3d9a"


def set_colour(number: int) -> str:
    """Neighbours differ most: steps of the golden angle in hue, and three steps of lightness."""
    hue = (0.56 + number * 0.381966) % 1.0
    return _hex(hls_to_rgb(hue, (0.46, 0.60, 0.36)[number % 3], 0.62))


def ratio_colour(log10_ratio: float) -> str:
    """Blue where outgoing weights are larger, orange where incoming ones are; a factor of 100 is the full colour."""
    part = max(-1.0, min(1.0, log10_ratio / 2))
    end = (0.84, 0.37, 0.0) if part > 0 else (0.0, 0.45, 0.70)
    pale = (0.93, 0.93, 0.93)
    share = abs(part) ** 0.7
    return _hex((1 - share) * p + share * e for p, e in zip(pale, end, strict=True))


def _hex(parts: object) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in parts)  # type: ignore[attr-defined]
