"""nfn classify-inr by the installed command."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from .running import RELU, nfn

Image = pytest.importorskip("PIL.Image")


def _schema(name: str) -> dict[str, object]:
    return dict(json.loads((files("nfn_cli") / "schemas" / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def inr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a stroke, as people write 1."""
    folder = tmp_path_factory.mktemp("inr")
    rows, columns = np.mgrid[0:28, 0:28] - 13.5
    ink = np.clip(2.2 - np.abs(columns + 0.3 * rows), 0, 1) * (np.abs(rows) < 10)
    Image.fromarray(np.uint8(255 * ink)).save(folder / "one.png")
    assert nfn("fit-inr", folder / "one.png", "-o", folder / "one.safetensors", "--steps", 200).code == 0
    return folder / "one.safetensors"


def test_the_answer_has_the_keys_of_the_schema_and_others_are_refused_beside_it(inr: Path) -> None:
    run = nfn("classify-inr", inr, RELU, "--json", "--probabilities")
    assert run.code == 3
    answer, refusal = run.json()
    for line in (answer, refusal):
        jsonschema.validate(line, _schema("classify-inr"))
    assert (answer["class"], answer["label"], answer["predictor"]) == (1, "1", "inr-mnist")
    assert answer["path"] == str(inr)
    assert answer["probabilities"][1] == answer["probability"]
    assert refusal["error"]["code"] == "not-an-inr"
    assert "two coordinates" in run.err


def test_a_file_that_does_not_tell_its_activation_is_answered_with_the_options_that_do(inr: Path) -> None:
    bare = inr.with_name("bare.safetensors")
    save_file(load_file(inr), bare)
    run = nfn("classify-inr", bare)
    assert run.code == 3
    assert "--activation sin --omega 30" in run.err
    run = nfn("classify-inr", bare, "--activation", "sin", "--omega", "30", "--json")
    assert (run.code, run.json()[0]["class"]) == (0, 1)


def test_a_table_for_people(inr: Path) -> None:
    run = nfn("classify-inr", inr)
    assert (run.code, run.err) == (0, "")
    assert "inr-mnist" in run.out
    assert all(len(line) <= 80 or str(inr) in line for line in run.out.splitlines())


def test_wrong_usage_is_told_before_any_file_is_read() -> None:
    run = nfn("classify-inr", "missing.safetensors", "--predictor", "inr-nothing")
    assert run.code == 2
    assert "inr-mnist" in run.err


def test_predictors_are_listed_with_the_others() -> None:
    run = nfn("predictors", "--json")
    assert run.code == 0
    lines = run.json()
    for line in lines:
        jsonschema.validate(line, _schema("predictors"))
    accuracies = {line["name"]: line["accuracy"] for line in lines if "accuracy" in line}
    assert accuracies["inr-mnist"] > 0.984
    assert any("kendall_tau" in line for line in lines)
