"""zoo/images.py: image sets in the forms in which people keep them, as uint8 arrays. Knows files; no torch, no network.

Read are: a folder with `train.npz` and `test.npz` (`images` + `labels`, or `jpeg` + `offsets` + `labels`), one npz
(the same members, or Keras' `x_train y_train x_test y_test`), IDX files as MNIST has them (also .gz), and a folder of
image files, `train/CLASS/FILE` and `test/CLASS/FILE` or `CLASS/FILE` alone. Where no test set is named, a sixth of the
images, drawn with a fixed seed, is kept aside.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable
from nfn_cli.zoo.pictures import pillow

Array = np.ndarray[Any, np.dtype[Any]]
# what numpy raises beside ValueError for archives and headers that are damaged
DAMAGED_ARRAYS = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError),
    NotImplementedError,
    RuntimeError,
    *(MemoryError, OverflowError),  # a header claims more than there is
)
_LARGEST = 1 << 32  # bytes of pixels
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_TEST_NAMES = ("test", "val", "valid", "validation")
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ImageSet:
    """Images and their classes.

    Attributes:
        images: (n, height, width, channels) uint8.
        labels: (n,) int64, from 0.
    """

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImageData:
    """What a zoo is trained on."""

    name: str
    train: ImageSet
    test: ImageSet

    @property
    def classes(self) -> int:
        return int(max(self.train.labels.max(), self.test.labels.max())) + 1

    def digest(self) -> str:
        """SHA-256 of every pixel and label: whether two folders hold the same data."""
        found = hashlib.sha256()
        for part in (self.train, self.test):
            found.update(repr(part.images.shape).encode())
            found.update(np.ascontiguousarray(part.images).data)
            found.update(np.ascontiguousarray(part.labels).data)
        return found.hexdigest()


def read_images(path: str | Path, grey: bool | None) -> ImageData:
    """Read an image set.

    Args:
        path: see the top of this file.
        grey: one channel, 0.299 R + 0.587 G + 0.114 B, or three; None as the images have it.

    Raises:
        SurroundingsFailed: nothing there, or Pillow is needed and missing.
        Refused: the files are not a set of images of one size with a label each.
    """
    path = Path(path)
    try:
        train, test = _read_folder(path) if path.is_dir() else _read_npz(path, True)
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(path)) from None
    except (ValueError, KeyError, EOFError, struct.error, *DAMAGED_ARRAYS) as error:
        raise Refused(f"not a set of images ({printable(error)})", where=printable(path), code="bad-images") from None
    coloured = train.images.shape[-1] == 3
    train = _checked(train, grey, path)
    train, test = _kept_aside(train) if test is None else (train, _checked(test, grey, path))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise Refused("training and test images differ in size", where=printable(path), code="bad-images")
    name = path.name.split(".")[0] if path.is_file() else path.resolve().name
    return ImageData(name + ("-grey" if grey and coloured else ""), train, test)


def _checked(part: ImageSet, grey: bool | None, path: Path) -> ImageSet:
    images, labels = part.images, part.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise Refused(
            f"images are {images.dtype} {images.shape}", where=printable(path),
            fix="uint8 of shape (n, height, width) or (n, height, width, 3)", code="bad-images",
        )  # fmt: skip
    if (
        labels.ndim != 1
        or len(labels) != len(images)
        or len(labels) == 0
        or not np.issubdtype(labels.dtype, np.integer)
    ):
        raise Refused(
            f"{len(images)} images have labels {labels.shape} {labels.dtype}", where=printable(path), code="bad-images"
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= 10_000:
        raise Refused("labels are not small non-negative integers", where=printable(path), code="bad-images")
    if images.shape[-1] == 3 and grey:
        images = np.concatenate([_greyed(images[start : start + 4096]) for start in range(0, len(images), 4096)])
    elif images.shape[-1] == 1 and grey is False:
        images = np.repeat(images, 3, axis=-1)
    return ImageSet(np.ascontiguousarray(images), labels)


def _greyed(images: Array) -> Array:
    grey: Array = np.rint(images.astype(np.float32) @ _GREY)[..., None].astype(np.uint8)
    return grey


def _kept_aside(whole: ImageSet) -> tuple[ImageSet, ImageSet]:
    order = np.random.default_rng(0).permutation(len(whole))
    count = max(1, len(whole) // 6)
    cut = (order[count:], order[:count])
    train, test = (ImageSet(whole.images[rows], whole.labels[rows]) for rows in cut)
    return train, test


def _read_folder(folder: Path) -> tuple[ImageSet, ImageSet | None]:
    if (folder / "train.npz").exists():
        train, test = _read_npz(folder / "train.npz", False)
        for name in _TEST_NAMES:
            if (folder / f"{name}.npz").exists():
                test, _ = _read_npz(folder / f"{name}.npz", False)
                break
        return train, test
    idx = {file.name: file for file in sorted(folder.iterdir()) if "-ubyte" in file.name and file.is_file()}
    if idx:
        return _idx_pair(idx, "train"), _idx_pair(idx, "t10k") if any(n.startswith("t10k") for n in idx) else None
    return _read_pictures(folder)


def _read_npz(path: Path, whole: bool) -> tuple[ImageSet, ImageSet | None]:
    """One file: `whole` asks for both sets in it, where it has them."""
    with np.load(path, allow_pickle=False) as members:
        if not isinstance(members, np.lib.npyio.NpzFile):
            raise ValueError("one array alone has no labels")
        sizes = sum(info.file_size for info in members.zip.infolist()) if members.zip else 0
        if sizes > _LARGEST:
            raise ValueError(f"{sizes} bytes of pixels are too many")
        if whole and "x_train" in members:
            keras = [(members[f"x_{part}"], np.asarray(members[f"y_{part}"]).reshape(-1)) for part in ("train", "test")]
            return _set(*keras[0]), _set(*keras[1])
        if "images" in members:
            return _set(members["images"], members["labels"]), None
        if "jpeg" in members:
            return _decoded(members["jpeg"], members["offsets"], members["labels"]), None
        raise ValueError(f"it holds {', '.join(members.files)}, not images and labels")


def _set(images: Array, labels: Array) -> ImageSet:
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        raise ValueError("a member is no array")
    if images.ndim not in (3, 4):
        raise ValueError(f"images of shape {images.shape}")
    return ImageSet(images[..., None] if images.ndim == 3 else images, labels)


def _decoded(jpeg: Array, offsets: Array, labels: Array) -> ImageSet:
    if not all(isinstance(member, np.ndarray) for member in (jpeg, offsets, labels)):
        raise ValueError("a member is no array")
    raw = jpeg.astype(np.uint8, copy=False).tobytes()
    if (
        offsets.ndim != 1
        or len(offsets) < 2
        or np.any(np.diff(offsets) <= 0)
        or offsets[0] < 0
        or offsets[-1] > len(raw)
    ):
        raise ValueError("offsets do not rise from 0 to the number of bytes")
    bounds = offsets.tolist()
    files = (io.BytesIO(raw[start:stop]) for start, stop in pairwise(bounds))
    return ImageSet(_opened(files), labels)


def _read_pictures(folder: Path) -> tuple[ImageSet, ImageSet | None]:
    train = folder / "train"
    if not train.is_dir():
        names = _class_names(folder)
        return _labelled(folder, names), None
    names = _class_names(train)
    test = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
    return _labelled(train, names), None if test is None else _labelled(test, names)


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise WrongUsage(
            "no images found", where=printable(folder),
            fix="train.npz and test.npz, IDX files, or one folder of image files for each class", code="no-images",
        )  # fmt: skip
    return names


def _labelled(folder: Path, names: list[str]) -> ImageSet:
    files, labels = [], []
    for label, name in enumerate(names):
        found = sorted(f for f in (folder / name).rglob("*") if f.suffix.lower() in _PICTURES)
        files += found
        labels += [label] * len(found)
    return ImageSet(_opened(files), np.array(labels, np.int64))


def _opened(files: Iterable[Any]) -> Array:
    """Image files of one size -> (n, height, width, 3) uint8, or one channel where all are grey."""
    image = pillow()
    arrays: list[Array] = []
    for file in files:
        try:
            with image.open(file) as opened:
                if opened.width * opened.height > 1 << 20:
                    raise ValueError(f"an image of {opened.width}×{opened.height} is too large for a small CNN")
                arrays.append(np.asarray(opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")))
        except (OSError, SyntaxError, image.DecompressionBombError) as error:
            raise ValueError(f"an image cannot be opened: {error}") from None
        if arrays[-1].shape[:2] != arrays[0].shape[:2]:
            raise ValueError(f"images of {arrays[0].shape[:2]} and {arrays[-1].shape[:2]}; make them one size")
    if not arrays:
        raise ValueError("no image file found")
    if {array.ndim for array in arrays} == {2}:
        return np.stack(arrays)[..., None]
    return np.stack([array if array.ndim == 3 else np.repeat(array[..., None], 3, -1) for array in arrays])


def _idx_pair(files: Mapping[str, Path], part: str) -> ImageSet:
    def find(word: str) -> Path:
        for name, file in files.items():
            if name.startswith(part) and word in name:
                return file
        raise ValueError(f"no {part} {word} among the IDX files")

    return _set(read_idx(find("images")), read_idx(find("labels")))


def read_idx(path: Path) -> Array:
    """One IDX file of unsigned bytes, plain or .gz.

    Raises:
        ValueError: another element type, or not as long as its header says.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        zero, kind, rank = struct.unpack(">HBB", file.read(4))
        if zero != 0 or kind != 8 or not 1 <= rank <= 4:
            raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        count = int(np.prod([int(n) for n in shape], dtype=object))
        if count > _LARGEST:
            raise ValueError(f"{path.name} claims {count} bytes")
        content = file.read(count + 1)
    if len(content) != count:
        raise ValueError(f"{path.name} is not as long as its header says")
    return np.frombuffer(content, np.uint8).reshape(shape)
