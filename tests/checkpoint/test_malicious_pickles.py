"""A pickle that would run code never runs it, whatever file it hides in. The canary does fire under plain pickle."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import nfn_cli
from nfn_cli.errors import NfnError
from nfn_cli.predictors.inr_edit import load_editor
from nfn_cli.predictors.inr_predictor import load_inr_predictor
from nfn_cli.predictors.predictor import load_predictor
from nfn_cli.symmetry.element_file import read_element
from nfn_cli.zoo.images import read_images
from nfn_cli.zoo.network_inputs import read_inputs
from nfn_cli.zoo.open_zoo import open_zoo


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def _text(module: str, name: str, argument: str, tail: bytes = b"tR.") -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"X" + struct.pack("<I", len(argument)) + argument.encode() + tail


def _put_in_memo(module: str, name: str, argument: str) -> bytes:
    """Module and name come out of the memo, far from where they are used, with other text between."""
    words = b"".join(
        b"\x8c" + bytes([len(w)]) + w.encode() + b"q" + bytes([i]) + b"0" for i, w in enumerate((module, name, "x"))
    )
    return (
        b"\x80\x04"
        + words
        + b"h\x00h\x01\x93h\x02"
        + b"0("
        + b"X"
        + struct.pack("<I", len(argument))
        + argument.encode()
        + b"tR."
    )


# what is hidden: canary -> the bytes of a pickle
PICKLES: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda canary: pickle.dumps(Call(os.system, f"touch {canary}")),
    "os.system, protocol 0": lambda canary: pickle.dumps(Call(os.system, f"touch {canary}"), 0),
    "eval": lambda canary: pickle.dumps(Call(eval, f"open({str(canary)!r}, 'w')")),
    "exec by opcodes": lambda canary: b"\x80\x02" + _text("builtins", "exec", f"open({str(canary)!r}, 'w')"),
    "memoized name": lambda canary: _put_in_memo("builtins", "eval", f"open({str(canary)!r}, 'w')"),
    "inst": lambda canary: (
        b"(X" + struct.pack("<I", len(str(canary)) + 6) + f"touch {canary}".encode() + b"ios\nsystem\n."
    ),
    "nested": lambda canary: pickle.dumps(
        {"w": [Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {canary}")))]}
    ),
    "getattr": lambda canary: pickle.dumps(Call(getattr(os, "system"), f"touch {canary}"), 4),  # noqa: B009
    "after many memos": lambda canary: pickle.dumps([list(range(3000)), Call(os.system, f"touch {canary}")]),
    "legacy storage": lambda canary: pickle.dumps(
        Call(torch.storage._load_from_bytes, _zipped(pickle.dumps(Call(os.system, f"touch {canary}"))))
    ),
}


def _zipped(data: bytes, inner: str = "archive/data.pkl", more: dict[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(inner, data)
        archive.writestr(inner.replace("data.pkl", "version"), "3\n")
        archive.writestr(inner.replace("data.pkl", "byteorder"), "little")
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return out.getvalue()


def _legacy(data: bytes) -> bytes:
    magic, system = (
        torch.serialization.MAGIC_NUMBER,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
    )
    parts = [pickle.dumps(magic, 2), pickle.dumps(1001, 2), pickle.dumps(system, 2)]
    return b"".join(parts) + data + pickle.dumps([], 2)


def _object_array(data: bytes) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return header.getvalue() + data


def _state() -> bytes:
    out = io.BytesIO()
    torch.save({"fc1.weight": torch.ones(3, 2), "fc2.weight": torch.ones(1, 3)}, out)
    return out.getvalue()


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _swapped(whole: bytes, member: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in _members(whole).items():
            archive.writestr(name, content if name.endswith(member) else data)
    return out.getvalue()


def _script(data: bytes, member: str) -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out)
    return _swapped(out.getvalue(), member, data)


def _sb3(policy: bytes, data: bytes = b"{}") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", policy)
        archive.writestr("policy.optimizer.pth", policy)
    return out.getvalue()


# where it is hidden: the bytes of a pickle -> the bytes of a file
HIDING: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "torch zip": _zipped,
    "torch zip, no folder": lambda data: _zipped(data, "data.pkl"),
    "torch zip, second pickle": lambda data: _zipped(pickle.dumps({}), more={"other/data.pkl": data}),
    "torch zip, compressed": lambda data: _swapped(_state(), "data.pkl", data),
    "torch legacy": _legacy,
    "torch legacy, first pickle": lambda data: (
        data[:-1] + b"0" + pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)[2:] + data
    ),
    "zip in zip": lambda data: _zipped(_zipped(data), "archive/data.pkl"),
    "npy": _object_array,
    "npz": lambda data: _zipped(_object_array(data), "a.npy"),
    "npz, member that is no array": lambda data: _zipped(data, "a.npy"),
    "sb3": lambda data: _sb3(_zipped(data)),
    "sb3, legacy": lambda data: _sb3(_legacy(data)),
    "sb3, optimizer and data": lambda data: _sb3(_state(), data).replace(
        b"policy.optimizer.pth", b"policy.optimizes.pth"
    ),
    "torchscript, objects": lambda data: _script(data, "/data.pkl"),
    "torchscript, constants": lambda data: _script(data, "/constants.pkl"),
    "pt2, weights": lambda data: _pt2(_zipped(data), b"{}"),
    "pt2, constants": lambda data: _pt2(_state(), _zipped(data)),
    "gzip": gzip.compress,
}


def _pt2(weights: bytes, constants: bytes) -> bytes:
    parts = {"serialized_state_dict.pt": weights, "serialized_constants.pt": constants, "version": b"8"}
    return _zipped(b"{}", "serialized_exported_program.json", parts)


def _read_everywhere(path: Path) -> int:
    """Every reader that may be given the file; how many refused it."""
    refused = 0
    folder = path.parent
    for read in (
        lambda: nfn_cli.symmetry_report(path, nfn_cli.NameOptions(activation="relu")),
        lambda: nfn_cli.load(folder),
        lambda: read_element(path),
        lambda: read_inputs(path, channels=1, pixels=(0.0, 1.0), rows=10),
        lambda: read_images(path, None),
        lambda: open_zoo(folder).families,
        lambda: nfn_cli.load(f"{folder}#0"),
    ):
        try:
            read()
        except NfnError as error:
            refused += str(error).isprintable()
    return refused


@pytest.mark.parametrize("hiding", HIDING)
@pytest.mark.parametrize("kind", PICKLES)
def test_nothing_in_a_file_is_run(tmp_path: Path, kind: str, hiding: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model"
    path.write_bytes(HIDING[hiding](PICKLES[kind](canary)))
    refused = _read_everywhere(path)
    assert not canary.exists()
    assert refused >= 4


@pytest.mark.parametrize("kind", PICKLES)
def test_the_canary_does_fire_under_plain_pickle(tmp_path: Path, kind: str) -> None:
    """The control: each pickle of the corpus is as bad as it claims."""
    canary = tmp_path / "canary"
    data = PICKLES[kind](canary)
    if kind == "legacy storage":  # torch itself unpickles weights only by now: what it holds is the same pickle
        data = PICKLES["os.system"](canary)
    pickle.loads(data)
    assert canary.exists()


def _as_shard(folder: Path, data: bytes) -> None:
    (folder / "m.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
    (folder / "x.safetensors").write_bytes(data)


def _as_zoo_rows(folder: Path, data: bytes) -> None:
    (folder / "weights.npy").write_bytes(_object_array(data))
    (folder / "layout.csv").write_text('varname,start_idx,end_idx,shape\na,0,1,"(1,)"\n')


def _as_zoo_shard(folder: Path, data: bytes) -> None:
    (folder / "zoo.json").write_text('{"schema": "nfn.zoo/1", "description": ""}')
    (folder / "shards").mkdir()
    (folder / "shards" / "a.safetensors").write_bytes(data)
    (folder / "shards" / "a.csv").write_bytes(data)


def _as_table(folder: Path, data: bytes) -> None:
    (folder / "table.csv").write_text("path,run,step,test_accuracy\nm.pt,a,1,0.5\n")
    (folder / "m.pt").write_bytes(_zipped(data))


def _as_images(folder: Path, data: bytes) -> None:
    for part in ("train", "test"):
        (folder / f"{part}.npz").write_bytes(
            _zipped(_object_array(data), "images.npy", {"labels.npy": _object_array(data)})
        )


def _as_predictor(folder: Path, data: bytes) -> None:
    models = Path(nfn_cli.__file__).parents[1] / "models"
    (folder / "card.json").write_bytes((models / "generalization-cifar10gs-relu" / "card.json").read_bytes())
    (folder / "editor.json").write_bytes((models / "inr-edit-dilate" / "editor.json").read_bytes())
    (folder / "weights.safetensors").write_bytes(_zipped(data))


FOLDERS = {"shard": _as_shard, "rows": _as_zoo_rows, "shards": _as_zoo_shard, "table": _as_table}
FOLDERS |= {"images": _as_images, "predictor": _as_predictor}


@pytest.mark.parametrize("kind", ["os.system", "eval", "nested"])
@pytest.mark.parametrize("form", FOLDERS)
def test_nothing_in_a_folder_is_run(tmp_path: Path, kind: str, form: str) -> None:
    canary, folder = tmp_path / "canary", tmp_path / "in"
    folder.mkdir()
    FOLDERS[form](folder, PICKLES[kind](canary))
    refused = 0
    for read in (
        lambda: nfn_cli.load(folder),
        lambda: nfn_cli.load(f"{folder}#0"),
        lambda: open_zoo(folder).checkpoint(0),
        lambda: read_images(folder, None),
        lambda: load_predictor(str(folder)),
        lambda: load_inr_predictor(str(folder)),
        lambda: load_editor(str(folder)),
    ):
        try:
            read()
        except NfnError:
            refused += 1
    assert not canary.exists()
    assert refused == 7


BOMBS = {
    "recursive list": b"\x80\x02]q\x00h\x00a.",
    "recursive dict": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "doubling": b"\x80\x02" + b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b".",
    "memo at the end of the world": b"\x80\x02]r\xff\xff\xff\x7f.",
    "oversize text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"a.",
    "oversize long": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\1.",
    "deep": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "frame that lies": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "no stop": b"\x80\x02]",
    "stack underflow": b"\x80\x02R.",
    "name of control characters": b"\x80\x02cos\x1b[31m\nsys\x07tem\n.",
}


@pytest.mark.parametrize(
    "hiding", ["plain", "torch zip", "torch legacy", "sb3", "torchscript, objects", "pt2, weights", "npy"]
)
@pytest.mark.parametrize("bomb", BOMBS)
def test_pickles_that_would_exhaust_a_machine_are_refused(tmp_path: Path, bomb: str, hiding: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(HIDING[hiding](BOMBS[bomb]))
    with pytest.raises(NfnError) as caught:
        nfn_cli.symmetry_report(path)
    assert str(caught.value).isprintable()


def test_weights_beside_a_pickle_are_still_read(tmp_path: Path) -> None:
    """The other control: these readers do read what is harmless."""
    (tmp_path / "m.pt").write_bytes(_state())
    save_file({"fc1.weight": np.ones((3, 2), np.float32)}, tmp_path / "m.safetensors")
    assert set(nfn_cli.load(tmp_path / "m.pt").tensors) == {"fc1.weight", "fc2.weight"}
    assert set(nfn_cli.load(tmp_path / "m.safetensors").tensors) == {"fc1.weight"}
