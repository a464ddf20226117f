"""zoo/network_inputs.py: inputs for a network, with labels where there are some, from image sets and plain arrays. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.printable import printable
from nfn_cli.zoo.images import DAMAGED_ARRAYS, read_images

Array = np.ndarray[Any, np.dtype[Any]]
_PLAIN = ("inputs", "x", "images")
_LABELS = ("labels", "y")
_LARGEST = 1 << 33  # bytes of an array


@dataclass(frozen=True)
class NetworkInputs:
    """Inputs of a network.

    Attributes:
        values: (n, …) float32; images as (n, channels, height, width).
        labels: (n,) int64, or None.
    """

    values: Array
    labels: Array | None


def read_inputs(path: str | Path, *, channels: int | None, pixels: tuple[float, float], rows: int) -> NetworkInputs:
    """At most `rows` inputs.

    Args:
        path: an image set as `read_images` takes it (its test set, where it names one); an npz with `inputs` or `x` (floats, as the
            network takes them) or `images` (uint8), and `labels` or `y` where there are some; or one npy array.
        channels: that the network reads: images become grey for 1.
        pixels: what 0 and 255 become.

    Raises:
        Refused: the file holds no inputs, or not as many labels (code "bad-inputs").
        SurroundingsFailed: it cannot be read.
    """
    path = Path(path)
    try:
        found = None if path.is_dir() else _plain(path)
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(path)) from None
    except (ValueError, KeyError, EOFError, *DAMAGED_ARRAYS) as error:
        raise _bad(path, printable(error, 200)) from None
    if found is None:
        data = read_images(path, grey=channels == 1)
        named = path.is_dir() or "x_train" in _members(path)
        parts = [data.test] if named else [data.train, data.test]
        found = (np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    values, labels = found
    if not len(values):
        raise _bad(path, "no input in it")
    values, labels = values[:rows], None if labels is None else labels[:rows]
    if values.dtype == np.uint8:
        values = _scaled(values, pixels)
    if not np.isfinite(values).all():
        raise _bad(path, "inputs are not finite")
    return NetworkInputs(np.ascontiguousarray(values, np.float32), labels)


def _members(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as content:
        return list(getattr(content, "files", ()))


def _plain(path: Path) -> tuple[Array, Array | None] | None:
    """Arrays as they are; None where the file is an image set with labels, which has a reader."""
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _checked(path, loaded, None)
    with loaded as content:
        files = content.files
        name = next((name for name in _PLAIN if name in files), None)
        label = next((name for name in _LABELS if name in files), None)
        if "jpeg" in files or "x_train" in files or (name == "images" and label is not None):
            return None
        if name is None:
            raise ValueError(f"it holds {', '.join(files)}; inputs, x or images is needed")
        if content.zip and sum(info.file_size for info in content.zip.infolist()) > _LARGEST:
            raise ValueError("too many bytes of inputs")
        return _checked(path, content[name], None if label is None else content[label])


def _checked(path: Path, values: Array, labels: Array | None) -> tuple[Array, Array | None]:
    if not isinstance(values, np.ndarray) or not (labels is None or isinstance(labels, np.ndarray)):
        raise _bad(path, "a member of it is no array")
    if values.ndim < 2 or values.dtype.kind not in "fu" or (values.dtype.kind == "u" and values.dtype != np.uint8):
        raise _bad(path, f"inputs are {values.dtype} {values.shape}")
    if labels is not None and (labels.shape != (len(values),) or labels.dtype.kind not in "iu"):
        raise _bad(path, f"{len(values)} inputs have labels {labels.dtype} {labels.shape}")
    if values.dtype == np.uint8 and values.ndim == 3:
        values = values[..., None]
    return values, None if labels is None else labels.astype(np.int64)


def _scaled(images: Array, pixels: tuple[float, float]) -> Array:
    """(n, height, width, channels) uint8 -> (n, channels, height, width)."""
    low, high = pixels
    moved = np.moveaxis(images, -1, 1) if images.ndim == 4 else images
    return moved.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)


def _bad(path: Path, what: str) -> Refused:
    return Refused(
        what,
        where=printable(path),
        fix="an image set, an npz with inputs (and labels), or one npy array",
        code="bad-inputs",
    )
