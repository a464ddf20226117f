"""Files come from strangers: nothing is executed, nothing crashes, every refusal has a reason."""

from __future__ import annotations

import gzip
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from nfn_cli.checkpoint import check_finite, load
from nfn_cli.errors import NfnError

from ..shared_data import shared_data


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def samples(folder: Path) -> list[Path]:
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    save_file(tensors, folder / "s")
    np.savez(folder / "z.npz", **tensors)
    np.save(folder / "n.npy", tensors["a.weight"])
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    torch.save(state, folder / "t")
    torch.save(state, folder / "l", _use_new_zipfile_serialization=False)
    return [folder / name for name in ("s", "z.npz", "n.npy", "t", "l")]


@pytest.mark.parametrize("number", range(5), ids=["safetensors", "npz", "npy", "torch", "legacy"])
def test_every_truncation_is_refused(tmp_path: Path, number: int) -> None:
    whole = samples(tmp_path)[number].read_bytes()
    cut = tmp_path / "cut"
    step = max(1, len(whole) // 150)
    for length in [*range(0, len(whole) - 1, step), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(NfnError):
            load(cut)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 4), where=st.floats(0, 1), byte=st.integers(0, 255))
def test_flipped_bytes_never_crash(tmp_path: Path, number: int, where: float, byte: int) -> None:
    content = bytearray(samples(tmp_path)[number].read_bytes())
    content[int(where * (len(content) - 1))] = byte
    (tmp_path / "bent").write_bytes(content)
    with suppress(NfnError):  # anything else is a crash
        load(tmp_path / "bent")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_noise_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise").write_bytes(content)
    with pytest.raises(NfnError):
        load(tmp_path / "noise")


@pytest.mark.parametrize("kind", ["plain", "zip", "legacy"])
def test_a_malicious_pickle_is_named_and_never_run(tmp_path: Path, kind: str) -> None:
    path, touched = tmp_path / "evil.pt", tmp_path / "touched"
    if kind == "plain":
        path.write_bytes(pickle.dumps(Evil(touched)))
    else:
        torch.save({"w": Evil(touched)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(NfnError, match="open") as caught:
        load(path)
    assert caught.value.code == "unsafe-pickle"
    assert not touched.exists()


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * (200 << 20))
    with pytest.raises(NfnError) as caught:
        load(tmp_path / "b.npz")
    assert caught.value.code == "zip-bomb"


def test_object_arrays_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([Evil(tmp_path / "touched")], dtype=object), allow_pickle=True)
    with pytest.raises(NfnError):
        load(tmp_path / "o.npy")
    assert not (tmp_path / "touched").exists()


KINDS = {
    "empty-file": b"",
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "not-a-checkpoint": b"<!DOCTYPE html><html></html>",
    "compressed": gzip.compress(b"a,b\n1,2\n"),
    "bad-header": struct.pack("<Q", 2) + b"[]",
}


@pytest.mark.parametrize("code", [c for c in KINDS if c != "bad-header"])
def test_other_files_are_called_what_they_are(tmp_path: Path, code: str) -> None:
    (tmp_path / "model.onnx").write_bytes(KINDS[code])
    with pytest.raises(NfnError) as caught:
        load(tmp_path / "model.onnx")
    assert caught.value.code == code


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    save_file({"ok": np.ones(3, np.float32), "bad": np.array([1, np.inf, np.nan], np.float32)}, tmp_path / "x")
    checkpoint = load(tmp_path / "x")
    check_finite(checkpoint, ["ok"])
    with pytest.raises(NfnError, match=r"bad.*1 NaN and 1 infinite"):
        check_finite(checkpoint)


def test_no_stranger_crashes_the_reader() -> None:
    for path in sorted(shared_data("checkpoints").iterdir()):
        if path.is_file() and path.suffix != ".csv":
            with suppress(NfnError):  # anything else is a crash
                load(path)
