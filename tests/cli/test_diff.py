"""nfn diff: what it tells people and programs, and what it refuses."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nfn_cli

from .running import RELU, TANH, nfn


def check_schema(line: dict) -> None:
    jsonschema.validate(line, json.loads((files("nfn_cli") / "schemas" / "diff.json").read_text()))


def weights(hidden: int = 6) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"fc1.weight": (hidden, 4), "fc1.bias": (hidden,), "fc2.weight": (3, hidden), "fc2.bias": (3,)}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def file(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    save_file(tensors, path, metadata={"activation": "relu"})
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """B is A disguised, after unit 2 was changed, unit 4 removed and a new one added in its place and behind it."""
    tensors = weights()
    one = file(tmp_path / "a.st", tensors)
    generator = np.random.default_rng(1)
    other = {
        "fc1.weight": np.concatenate([tensors["fc1.weight"], 2 * tensors["fc1.weight"][:1]]),
        "fc1.bias": np.concatenate([tensors["fc1.bias"], 2 * tensors["fc1.bias"][:1]]),
        "fc2.weight": np.concatenate([tensors["fc2.weight"], tensors["fc2.weight"][:, :1]], axis=1),
        "fc2.bias": tensors["fc2.bias"],
    }
    other["fc2.weight"][:, 0] *= -1  # v·σ(w) = −v·σ(w) + v·σ(2w)
    other["fc1.weight"][2] += 0.3 * generator.standard_normal(4).astype(np.float32)
    other["fc2.weight"][:, 5] = 0
    changed = file(tmp_path / "changed.st", other)
    disguised = tmp_path / "b.st"
    assert nfn("act", changed, "-o", disguised, "--random", "--seed", 3).code == 0
    return one, disguised


def test_json_names_every_unit_and_keeps_to_its_schema(pair: tuple[Path, Path]) -> None:
    run = nfn("diff", *pair, "--json")
    (line,) = run.json()
    check_schema(line)
    assert (run.code, run.err) == (0, "")
    assert line["equivalent"] is False
    (unit_set,) = line["unit_sets"]
    assert (unit_set["name"], unit_set["size"], unit_set["other_size"]) == ("fc1", 6, 7)
    status = {tuple(unit["units"]): unit["status"] for unit in unit_set["units"]}
    assert status == {(0,): "split", (1,): "same", (2,): "changed", (3,): "same", (4,): "same", (5,): "died"}
    assert line["counts"] | {"same": 3, "split": 1, "changed": 1, "died": 1} == line["counts"]
    assert [tensor["other_shape"] for tensor in line["tensors"]] == [[7, 4], [7], [3, 7], [3]]


def test_people_see_the_widest_changes_first_and_as_many_as_they_ask_for(pair: tuple[Path, Path]) -> None:
    run = nfn("diff", *pair)
    assert (run.code, run.err) == (0, "")
    rows = [line.split() for line in run.out.splitlines()]
    assert rows[1][:4] == ["fc1", "6", "7", "3"]
    assert [row[3] for row in rows if row[0] == "fc1" and len(row) > 3 and row[3] in ("died", "changed")] == [
        "died",
        "changed",
    ]
    assert "1 changed, 1 split, 1 died; 3 the same" in " ".join(run.out.split())
    assert "2 more units differ (--units all)" in nfn("diff", *pair, "--units", 1).out
    everything = nfn("diff", *pair, "--units", "all").out
    assert sum(" same " in line for line in everything.splitlines()[2:]) == 3
    assert all(len(line) <= 80 for line in everything.splitlines())


def test_a_disguised_copy_is_the_same_network(tmp_path: Path) -> None:
    disguised = tmp_path / "d.safetensors"
    assert nfn("act", RELU, "-o", disguised, "--random", "--seed", 7).code == 0
    (line,) = nfn("diff", RELU, disguised, "--json").json()
    check_schema(line)
    assert line["equivalent"] is True
    assert {status for status, count in line["counts"].items() if count} == {"same"}
    tensors = load_file(disguised)
    tensors["conv2.weight"][3] *= 1.01
    tensors["conv2.weight"][3, 0] *= 1.5
    changed = file(tmp_path / "c.st", tensors)
    how = ("--activation", "relu", "--pooling", "none")
    run = nfn("diff", changed, disguised, *how, "--json")
    assert run.code == 0, run.err
    assert run.json()[0]["equivalent"] is False
    assert nfn_cli.diff(changed, disguised, nfn_cli.NameOptions("relu", pooling="none"), tolerance=0.9).equivalent


def test_more_than_widths_is_refused_with_the_reason(tmp_path: Path) -> None:
    run = nfn("diff", RELU, TANH, "--json")
    (line,) = run.json()
    check_schema(line)
    assert (run.code, line["error"]["code"]) == (3, "different-architectures")
    assert "relu" in run.err
    deeper = weights() | {"fc3.weight": np.ones((2, 3), np.float32), "fc3.bias": np.ones(2, np.float32)}
    run = nfn("diff", file(tmp_path / "a.st", weights()), file(tmp_path / "b.st", deeper))
    assert (run.code, run.out) == (3, "")
    assert "operations" in run.err
    bad = file(tmp_path / "nan.st", weights() | {"fc2.bias": np.full(3, np.nan, np.float32)})
    run = nfn("diff", tmp_path / "a.st", bad)
    assert run.code == 3
    assert "nan.st: fc2.bias" in run.err
    assert run.err.count("\n") == 1


def test_wrong_usage_and_missing_files(tmp_path: Path) -> None:
    path = file(tmp_path / "a.st", weights())
    assert nfn("diff", path).code == 2
    assert nfn("diff", path, path, "--tol", 0).code == 2
    run = nfn("diff", path, path, "--units", "some")
    assert (run.code, run.out) == (2, "")
    assert "--units" in run.err
    assert nfn("diff", path, tmp_path / "missing").code == 4


def test_help_has_examples_and_the_api_has_the_function(tmp_path: Path) -> None:
    text = " ".join(nfn("diff", "--help").out.split())
    assert "nfn diff model.safetensors tuned.safetensors" in text
    assert "Networks trained apart have no units in common" in text
    answer = nfn_cli.diff(file(tmp_path / "a.st", weights(6)), file(tmp_path / "b.st", weights(8)))
    assert answer.unit_sets[0].sizes == (6, 8)
