"""`nfn zoo train-cnns` as a user meets it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from tests.cli.running import nfn
from tests.zoo.making import image_file


def test_standard_output_is_the_answer_and_the_zoo_can_be_read(tmp_path: Path) -> None:
    options = ("--data", image_file(tmp_path / "dots"), "--runs", 3, "--group-size", 2, "--steps", 2, "--threads", 1)
    made = nfn("zoo", "train-cnns", *options, "--activation", "tanh", "-o", tmp_path / "zoo", "--json")
    assert (made.code, made.err) == (0, "")
    assert made.json() == [
        {
            "schema": "nfn.zoo-train-cnns/1",
            "path": str(tmp_path / "zoo"),
            "runs": 4,
            "trained_now": 4,
            "checkpoints_a_run": 2,
        }
    ]
    schema = json.loads((files("nfn_cli") / "schemas" / "zoo-train-cnns.json").read_text())
    jsonschema.validate(made.json()[0], schema)
    report = nfn("symmetry-report", f"{tmp_path / 'zoo'}#0", "--json")
    assert report.code == 0, report.err
    assert report.json()[0]["networks"][0]["check"]["passed"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--architecture", "resnet"), 2, "small-cnn, heterogeneous"),
        (("--activation", "relu,sine"), 2, "'sine' is not known"),
        (("--checkpoints", "0.3,two"), 2, "are not numbers"),
        (("--checkpoints", "1.5"), 2, "fractions of the training"),
        (("--dtype", "float8"), 2, "float32"),
        (("--device", "tpu"), 2, "cuda"),
        (("--data", "missing"), 4, "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    images = image_file(tmp_path / "dots")
    run = nfn("zoo", "train-cnns", "--data", images, "--runs", 2, "--steps", 1, *options, "-o", tmp_path / "zoo")
    assert run.code == code
    assert message in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "zoo").exists()
