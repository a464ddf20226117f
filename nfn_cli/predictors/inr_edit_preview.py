"""predictors/inr_edit_preview.py: before, after and target of edited INRs side by side. Arrays only; no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfn_cli.predictors.inr_edit import Edited

Array = np.ndarray[Any, np.dtype[Any]]
_SIDE = 112  # small pictures are shown enlarged, their longer side at least this long
_GAP = 2


def preview(edited: Sequence[Edited]) -> Array:
    """(height, width, 1 or 3) uint8: a row for each INR: what it showed, what it shows, what it should; white between."""
    rows = [_row([one.before, one.after, one.target]) for one in edited]
    width, channels = max(row.shape[1] for row in rows), max(row.shape[2] for row in rows)
    padded = [_filled(row, row.shape[0] + _GAP, width, channels) for row in rows]
    whole: Array = np.concatenate(padded)[:-_GAP]
    return whole


def _row(tiles: Sequence[Array]) -> Array:
    height, width, channels = tiles[0].shape
    factor = max(1, -(-_SIDE // max(height, width)))
    large = [np.repeat(np.repeat(tile, factor, 0), factor, 1) for tile in tiles]
    parts = [_filled(tile, height * factor, width * factor + _GAP, channels) for tile in large]
    return np.concatenate(parts, axis=1)[:, :-_GAP]


def _filled(picture: Array, height: int, width: int, channels: int) -> Array:
    """The picture in the upper left of a white one."""
    whole = np.full((height, width, channels), 255, np.uint8)
    whole[: picture.shape[0], : picture.shape[1]] = picture
    return whole
