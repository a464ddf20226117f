"""nfn symmetry-report --norms: further keys for those who ask, and a sentence that says which norms mean something."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema

from .running import RELU, TANH, nfn


def test_norms_come_only_when_asked_for_and_keep_to_the_schema(tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    assert nfn("act", RELU, "-o", moved, "--random", "--seed", 3).code == 0
    schema = json.loads((files("nfn_cli") / "schemas" / "symmetry-report.json").read_text())
    plain = nfn("symmetry-report", RELU, "--json").json()
    lines = nfn("symmetry-report", RELU, moved, TANH, "--norms", "--json").json()
    for line in plain + lines:
        jsonschema.validate(line, schema)
    assert "norms" not in plain[0]["networks"][0]
    before, after = (line["networks"][0]["norms"] for line in lines[:2])
    for key, value in before["invariant"].items():
        assert abs(after["invariant"][key] - value) < 1e-5 * abs(value)
    assert abs(after["raw"]["squared_frobenius_sum"] - before["raw"]["squared_frobenius_sum"]) > 1
    assert [layer["name"] for layer in before["layers"]] == [
        "conv1.weight",
        "conv2.weight",
        "conv3.weight",
        "fc.weight",
    ]


def test_the_table_fits_80_columns_and_says_which_is_which() -> None:
    run = nfn("symmetry-report", RELU, "--norms")
    assert (run.code, run.err) == (0, "")
    assert max(map(len, run.out.splitlines()[1:])) <= 80  # the first line is the path
    text = " ".join(run.out.split())
    assert "raw norms are of the weights as they stand and move when units are rescaled" in text
    assert "path norm l2" in text
    assert "strides and pooling not known from tensor names" in text
