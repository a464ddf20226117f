"""zoo/pictures.py: one picture file in, one picture file out, through Pillow (extra `images`). No network."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nfn_cli.errors import Refused, SurroundingsFailed, not_installed
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST = 1 << 20  # pixels of a picture that is fitted
_LARGEST_READ = 1 << 26  # before it is made smaller
_GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # grey values of 16 bits; some formats come as 32


def pillow(otherwise: str = "") -> ModuleType:
    """Pillow's module Image.

    Args:
        otherwise: what would do without Pillow.

    Raises:
        SurroundingsFailed: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise not_installed("Pillow", "reading and writing pictures", "images", otherwise) from None
    return Image


def read_picture(path: str | Path, *, grey: bool | None = None, longest: int | None = None) -> Array:
    """One picture file -> (height, width, 1 or 3) uint8, or uint16 where its grey values have 16 bits.

    Args:
        grey: one channel or three; None as the file has it. Transparency is left out.
        longest: the longer side is made this long, where it is longer.

    Raises:
        Refused: no picture, or too large a one (code "bad-picture").
        SurroundingsFailed: it cannot be read; Pillow is missing.
    """
    image, path = pillow(), Path(path)
    where = printable(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SurroundingsFailed(
            f"cannot be read ({error.strerror or error})", where=where, code="no-such-file"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(io.BytesIO(raw)) as opened:
                if opened.width * opened.height > _LARGEST_READ:
                    raise ValueError(f"{opened.width}×{opened.height} pixels are too many")
                if opened.mode == "F":
                    raise ValueError("its grey values are no whole numbers")
                deep = opened.mode in _DEEP_MODES
                grey = deep or opened.mode in _GREY_MODES if grey is None else grey
                picture = _in_floats(image, opened) if deep else opened.convert("L" if grey else "RGB")
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise Refused(f"no picture ({printable(error, 200)})", where=where, code="bad-picture") from None
    if longest is not None and max(picture.size) > longest:
        scale = longest / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, image.Resampling.BOX)
    if picture.width * picture.height > LARGEST:
        raise Refused(
            f"{picture.width}×{picture.height} pixels are more than {LARGEST}",
            where=where,
            fix="make it smaller with --size",
            code="bad-picture",
        )
    values = np.rint(np.asarray(picture)).astype(np.uint16 if deep else np.uint8)
    values = values[..., None] if values.ndim == 2 else values
    return values if grey else np.broadcast_to(values, (*values.shape[:2], 3)).copy()


def _in_floats(image: ModuleType, opened: Any) -> Any:
    """Grey values of 16 bits as a picture of floats, which can be made smaller."""
    values = np.asarray(opened)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise ValueError(f"its grey values are {values.min()} to {values.max()}, not of 16 bits")
    return image.fromarray(values.astype(np.float32))


def picture_bytes(values: Array) -> bytes:
    """A PNG of (height, width, 1 or 3) uint8."""
    image, target = pillow(), io.BytesIO()
    image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(target, "PNG")
    return target.getvalue()


def grid_of(tiles: list[Array], columns: int, gap: int = 1) -> Array:
    """Pictures of one size side by side, row by row, with white lines between; three channels if any has three."""
    channels = max(tile.shape[-1] for tile in tiles)
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        whole[top : top + height, left : left + width] = tile
    return whole
