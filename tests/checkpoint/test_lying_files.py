"""Files that lie about lengths, places and names: refused with a reason, and nothing raw reaches a terminal."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import nfn_cli
from nfn_cli.errors import NfnError
from tests.cli.running import nfn

EVIL = "fc\x1b[31m\u202e\x07.weight"


def headed(path: Path, header: dict[str, Any] | bytes, body: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(start: int, stop: int, *shape: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


ENTRY = json.dumps(entry(0, 8, 2)).encode()


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, None),
        ({"a": entry(0, 8, 2), "b": entry(0, 8, 2)}, None),
        ({"a": entry(0, 4, 1), "b": entry(8, 12, 1)}, None),
        ({"a": entry(0, 12, 2)}, None),
        (b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}", None),
        ({"a": entry(0, 12, 3)}, 10),
        ({"a": entry(0, 12, 3)}, 1 << 39),
        ({"a": entry(0, 12, 3)}, 90_000_000),
    ],
    ids=["overlap", "same place", "hole", "shape", "twice", "short", "long", "beyond the file"],
)
def test_a_header_that_lies(tmp_path: Path, header: dict[str, Any] | bytes, length: int | None) -> None:
    headed(tmp_path / "ok", {"a": entry(0, 12, 3)}, b"\0" * 12)
    assert nfn_cli.load(tmp_path / "ok").tensors["a"].shape == (3,)  # the control
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(headed(tmp_path / "m", header, b"\0" * 12, length))
    assert caught.value.code in ("bad-header", "truncated")


@pytest.mark.parametrize(
    "shard", ["../a.safetensors", "/etc/passwd", "b/../../a.safetensors", "", "..", "a\0b", "..\\a"]
)
def test_an_index_that_leads_out_of_its_folder(tmp_path: Path, shard: str) -> None:
    (tmp_path / "in").mkdir()
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "a.safetensors")
    (tmp_path / "in" / "m.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(tmp_path / "in" / "m.json")
    assert caught.value.code == "shard-outside-folder"


def test_an_output_that_is_a_link_never_changes_what_it_points_to(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 2), np.float32)}, tmp_path / "m.safetensors")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(NfnError):
        nfn_cli.save(nfn_cli.load(tmp_path / "m.safetensors"), tmp_path / "link")
    nfn_cli.save(nfn_cli.load(tmp_path / "m.safetensors"), tmp_path / "link", force=True)
    assert (tmp_path / "kept").read_text() == "kept"


def raw(text: str) -> set[str]:
    return {character for character in text if not character.isprintable() and character != "\n"}


@pytest.mark.parametrize("json_too", [True, False])
@pytest.mark.parametrize("command", ["symmetry-report", "digest", "canonicalize"])
def test_names_of_control_characters_never_reach_the_terminal(tmp_path: Path, command: str, json_too: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {EVIL: (4, 3), EVIL.replace("fc", "fc2"): (2, 4), "odd\x1b]0;x\x07": (3,)}
    path = tmp_path / "m\x1b[2J.safetensors"
    save_file({n: rng.standard_normal(s).astype(np.float32) for n, s in arrays.items()}, path, {"a\x1b": "\x1b[1m"})
    (tmp_path / "bad\x1b[2J").write_bytes(b"\x80\x02cos\x1b[31m\nsys\x07tem\n.")
    for source in (path, tmp_path / "bad\x1b[2J", tmp_path / "none\x1b"):
        options = ["-o", str(tmp_path / "out\x1b")] if command == "canonicalize" else []
        options += ["--activation", "relu"] if command != "digest" else []
        run = nfn(command, str(source), *options, *(["--json"] if json_too else []))
        assert raw(run.out) == set()
        assert raw(run.err) == set()
        assert "Traceback" not in run.err


def test_a_million_tiny_tensors_are_refused_before_they_are_made(tmp_path: Path) -> None:
    one = b'"t%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    text = b"{" + b",".join(one % (i, i, i + 1) for i in range(1_000_000)) + b"}"
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(headed(tmp_path / "m", text, b"\0" * 1_000_000))
    assert caught.value.code == "too-large"
