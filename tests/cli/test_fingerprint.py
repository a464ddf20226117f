"""nfn fingerprint: a code an input, distances with --to, exit codes for scripts."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from .running import RELU, TANH, nfn


def test_orbit_and_half_precision_copies_are_the_same_network(tmp_path: Path) -> None:
    moved, half = tmp_path / "moved.safetensors", tmp_path / "half.safetensors"
    assert nfn("act", RELU, "-o", moved, "--random", "--seed", 3).code == 0
    save_file({n: a.astype(ml_dtypes.bfloat16) for n, a in load_file(moved).items()}, half)
    run = nfn("fingerprint", moved, half, "--to", RELU, "--activation", "relu", "--json")
    assert run.code == 0
    first, second = run.json()
    assert (first["distance"], first["same_network"]) == (0, True)
    assert 0 <= second["distance"] <= 24
    strict = nfn("fingerprint", half, "--to", first["fingerprint"], "--activation", "relu", "--radius", 0)
    assert strict.code == (1 if second["distance"] else 0)


def test_other_networks_are_not(tmp_path: Path) -> None:
    assert nfn("fingerprint", RELU, TANH, "--to", RELU).code == 1
    other = tmp_path / "other.npz"
    np.savez(other, **{n: a * np.linspace(1, 2, a.size).reshape(a.shape) for n, a in load_file(RELU).items()})
    run = nfn("fingerprint", other, "--to", RELU, "--activation", "relu")
    assert (run.code, "different (distance" in run.out) == (1, True)


def test_json_goes_on_after_a_failure_and_keeps_to_its_schema(tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.safetensors"
    save_file({"a.weight": np.ones((2, 3), np.float32), "b.weight": np.ones((2, 2), np.float32)}, unknown)
    schema = json.loads((files("nfn_cli") / "schemas" / "fingerprint.json").read_text())
    run = nfn("fingerprint", RELU, unknown, tmp_path / "missing", TANH, "--json")
    assert run.code == 4
    lines = run.json()
    assert [("error" in line) for line in lines] == [False, True, True, False]
    for line in lines:
        jsonschema.validate(line, schema)
    plain = nfn("fingerprint", RELU)
    assert plain.out == f"{lines[0]['fingerprint']}  {RELU}\n"


def test_what_half_precision_would_lose_is_said(tmp_path: Path) -> None:
    """A member of the orbit whose first layer float16 cannot hold; the file itself is marked, its plain form is not."""
    tensors, faint = load_file(RELU), tmp_path / "faint.npz"
    moved = {n: tensors[n] * np.float32(1e-8) for n in ("conv1.weight", "conv1.bias")}
    np.savez(faint, **tensors | moved | {"conv2.weight": tensors["conv2.weight"] * np.float32(1e3)})
    np.savez(tmp_path / "plain.npz", **tensors | {"conv2.weight": tensors["conv2.weight"] * np.float32(1e-5)})
    run = nfn("fingerprint", faint, tmp_path / "plain.npz", "--activation", "relu", "--json")
    first, second = run.json()
    assert (first["reliable"], second["reliable"]) == (False, True)
    assert [any("float16" in note for note in line["notes"]) for line in (first, second)] == [True, False]
    assert (first["fingerprint"], "float16" in run.err) == (second["fingerprint"], True)


def test_help_says_that_equality_is_a_radius_and_no_proof() -> None:
    text = " ".join(nfn("fingerprint", "--help").out.split())
    assert "equality is not equality of text" in text
    assert "A match is no proof" in text
