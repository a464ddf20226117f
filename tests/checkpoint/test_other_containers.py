"""Files of other programs are named as what they are, with the way out; files that are read are not mistaken for them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import nfn_cli
from nfn_cli.errors import NfnError


def _saved(*shapes: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    for shape in shapes:
        np.save(stream, np.ones(shape, "f4"))
    return stream.getvalue()


NUMBERS = np.ones(50, "<f4").tobytes()
FILES = {
    "matlab": b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + NUMBERS,
    "torch7": struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 13) + b"nn.Sequential" + NUMBERS,
    "mxnet": struct.pack("<QQQ", 0x112, 0, 2) + NUMBERS,
    "paddle": bytes(16) + struct.pack("<i", 4) + b"\x08\x05\x10\x32" + NUMBERS,
    "darknet": struct.pack("<iiiq", 0, 2, 5, 32013312) + NUMBERS,
    "tf-checkpoint": NUMBERS + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
    "archive": b"7z\xbc\xaf\x27\x1c" + NUMBERS,
    "npy-series": b'{"width": 8}\n' + _saved((8, 3), (8,), (2, 8)),
}


@pytest.mark.parametrize("code", FILES)
def test_a_file_of_another_program_is_named(tmp_path: Path, code: str) -> None:
    (tmp_path / "m").write_bytes(FILES[code])
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(tmp_path / "m")
    assert caught.value.code == code
    assert caught.value.fix


def test_arrays_saved_one_after_another_are_named_and_one_alone_is_read(tmp_path: Path) -> None:
    (tmp_path / "many").write_bytes(_saved((8, 3), (8,)))
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(tmp_path / "many")
    assert caught.value.code == "npy-series"
    (tmp_path / "one").write_bytes(_saved((8, 3)))
    assert [array.shape for array in nfn_cli.load(tmp_path / "one").tensors.values()] == [(8, 3)]


def test_numbers_of_no_format_are_of_no_format(tmp_path: Path) -> None:
    for content in (bytes(300), struct.pack("<iiiq", 0, 2, 5, 1) + NUMBERS[:-1], np.ones(90, "<f4").tobytes()):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(NfnError) as caught:
            nfn_cli.load(tmp_path / "m")
        assert caught.value.code not in FILES


def test_quantized_weights_are_called_quantized(tmp_path: Path) -> None:
    weight = torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8)
    torch.save({"fc.weight": weight}, tmp_path / "m.pt")
    with pytest.raises(NfnError, match=r"quantized weights.*before it was quantized") as caught:
        nfn_cli.load(tmp_path / "m.pt")
    assert caught.value.code == "quantized"
