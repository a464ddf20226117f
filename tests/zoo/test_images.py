"""Image sets in the forms in which people keep them, and what is refused."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.zoo.images import read_images

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (12, 5, 4)).astype(np.uint8)
COLOUR = GENERATOR.integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)


def idx(array: Any, kind: int = 8) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx(folder: Path, packed: bool) -> Path:
    folder.mkdir()
    for part, rows in (("train", slice(0, 9)), ("t10k", slice(9, 12))):
        for word, array in (("images-idx3", GREY), ("labels-idx1", LABELS)):
            name = f"{part}-{word}-ubyte"
            content = idx(array[rows])
            (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_plain_and_packed(tmp_path: Path, packed: bool) -> None:
    data = read_images(write_idx(tmp_path / "digits", packed), grey=True)
    np.testing.assert_array_equal(data.train.images[..., 0], GREY[:9])
    np.testing.assert_array_equal(data.test.labels, LABELS[9:])
    assert (data.name, data.classes) == ("digits", 3)


def test_one_npz_keeps_a_sixth_aside_and_the_same_each_time(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=GREY, labels=LABELS)
    data, again = (read_images(tmp_path / "set.npz", grey=True) for _ in range(2))
    assert (len(data.train), len(data.test)) == (10, 2)
    together = np.concatenate([data.train.images, data.test.images])[..., 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, GREY))
    assert data.digest() == again.digest()
    assert data.digest() != read_images(tmp_path / "set.npz", grey=False).digest()


def test_keras_npz_has_both_sets(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "k.npz", x_train=COLOUR[:9], y_train=LABELS[:9, None], x_test=COLOUR[9:], y_test=LABELS[9:, None]
    )
    data = read_images(tmp_path / "k.npz", grey=False)
    np.testing.assert_array_equal(data.test.images, COLOUR[9:])
    np.testing.assert_array_equal(data.train.labels, LABELS[:9])


def test_colour_becomes_grey_by_the_usual_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", images=COLOUR, labels=LABELS)
    data = read_images(tmp_path / "c.npz", grey=True)
    expected = np.rint(COLOUR.astype(np.float64) @ [0.299, 0.587, 0.114])
    found = np.concatenate([data.train.images, data.test.images])[..., 0]
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected.astype(np.uint8)))


def test_image_files_in_a_folder_for_each_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for part, rows in (("train", range(9)), ("val", range(9, 12))):
        for row in rows:
            folder = tmp_path / part / f"class{LABELS[row]}"
            folder.mkdir(parents=True, exist_ok=True)
            image.fromarray(COLOUR[row]).save(folder / f"{row:03}.png")
    data = read_images(tmp_path, grey=False)
    order = sorted(range(9), key=lambda row: (LABELS[row], row))
    np.testing.assert_array_equal(data.train.images, COLOUR[order])
    np.testing.assert_array_equal(data.train.labels, LABELS[order])
    assert len(data.test) == 3


def test_jpeg_bytes_one_after_another(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    files = []
    for row in range(12):
        out = io.BytesIO()
        image.fromarray(GREY[row]).save(out, "JPEG", quality=100)
        files.append(out.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(tmp_path / "j.npz", jpeg=jpeg, offsets=offsets, labels=LABELS)
    data = read_images(tmp_path / "j.npz", grey=True)
    assert np.abs(data.train.images.astype(int).mean() - GREY.mean()) < 20
    np.savez(tmp_path / "j.npz", jpeg=jpeg, offsets=offsets[::-1].copy(), labels=LABELS)
    with pytest.raises(Refused, match="offsets"):
        read_images(tmp_path / "j.npz", grey=True)


def hostile_files() -> dict[str, dict[str, Any]]:
    return {
        "labels too few": {"images": GREY, "labels": LABELS[:5]},
        "negative labels": {"images": GREY, "labels": LABELS.astype(np.int64) - 1},
        "float labels": {"images": GREY, "labels": LABELS / 2},
        "float images": {"images": GREY / 255.0, "labels": LABELS},
        "two channels": {"images": COLOUR[..., :2], "labels": LABELS},
        "no images": {"pictures": GREY, "labels": LABELS},
        "nothing": {"images": GREY[:0], "labels": LABELS[:0]},
        "objects": {"images": np.array([{}, {}], dtype=object), "labels": LABELS},
    }


@pytest.mark.parametrize("name", hostile_files())
def test_what_is_not_a_set_of_images_is_refused(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "bad.npz", **hostile_files()[name])
    with pytest.raises(Refused):
        read_images(tmp_path / "bad.npz", grey=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        idx(GREY)[:-1],
        idx(GREY) + b"\0",
        idx(GREY, kind=13),
        struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 9),
    ],
    ids=["empty", "cut head", "cut", "too long", "floats", "huge"],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_idx(tmp_path / "digits", packed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(Refused):
        read_images(folder, grey=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(NfnError):
        read_images(tmp_path / "bad.npz", grey=True)


def test_nothing_there_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SurroundingsFailed):
        read_images(tmp_path / "missing", grey=True)
    with pytest.raises(WrongUsage, match="no images"):
        read_images(tmp_path, grey=True)
