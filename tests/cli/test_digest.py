"""nfn digest: one line an input, exit codes for scripts, and a manifest that other programs can hash."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
from safetensors.numpy import load_file, save_file

from .running import RELU, TANH, nfn


def test_it_prints_lines_as_sha256sum_does_and_the_manifest_hashes_to_it() -> None:
    run = nfn("digest", RELU)
    assert (run.code, run.err) == (0, "")
    digest, path = run.out.rstrip("\n").split("  ")
    assert path == str(RELU)
    manifest = nfn("digest", RELU, "--manifest").out
    assert len(manifest.splitlines()) == 8
    assert hashlib.sha256(manifest.encode()).hexdigest() == digest


def test_check_answers_with_the_exit_code(tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    np.savez(copy, **load_file(RELU))
    assert nfn("digest", RELU, copy, "--check").code == 0
    run = nfn("digest", RELU, TANH, "--check")
    assert (run.code, len(run.out.splitlines())) == (1, 2)
    assert nfn("digest", RELU, TANH).code == 0
    assert nfn("digest", RELU, "--check").code == 2


def test_modulo_symmetry_takes_an_orbit_for_one_network(tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    assert nfn("act", RELU, "-o", moved, "--random", "--seed", 3).code == 0
    assert nfn("digest", RELU, moved, "--check").code == 1
    assert nfn("digest", RELU, moved, "--check", "--modulo-symmetry").code == 0
    assert nfn("digest", RELU, TANH, "--check", "--modulo-symmetry", "--no-names").code == 1


def test_json_goes_on_after_a_failure_and_keeps_to_its_schema(tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.safetensors"
    save_file({"a.weight": np.ones((2, 3), np.float32), "b.weight": np.ones((2, 2), np.float32)}, unknown)
    schema = json.loads((files("nfn_cli") / "schemas" / "digest.json").read_text())
    run = nfn("digest", RELU, unknown, tmp_path / "missing", TANH, "--modulo-symmetry", "--json")
    assert run.code == 4
    codes = [line.get("error", {}).get("code") for line in run.json()]
    assert (codes[0], codes[2:]) == (None, ["no-such-file", None])
    assert codes[1] is not None  # no activation is known
    plain = nfn("digest", RELU, unknown, "--json")
    assert plain.code == 0
    for line in [*run.json(), *plain.json()]:
        jsonschema.validate(line, schema)
    assert plain.json()[0]["entries"] == 4970


def test_help_says_what_it_is_not() -> None:
    text = " ".join(nfn("digest", "--help").out.split())
    assert "float noise can move it" in text
    assert "In doubt nfn equivalent decides" in text
    assert {"nfn equivalent", "nfn fingerprint"} <= {f"nfn {name}" for name in nfn("--help").out.split()}
    assert "nfn digest model.safetensors --manifest | sha256sum" in text
