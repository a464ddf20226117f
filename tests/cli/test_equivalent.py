"""nfn equivalent and nfn align: exit codes, JSON that keeps to its schema, witnesses that nfn act applies."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import nfn_cli

from ..shared_data import shared_data
from .running import RELU, TANH, nfn


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


def check_schema(command: str, line: dict) -> None:
    jsonschema.validate(line, json.loads((files("nfn_cli") / "schemas" / f"{command}.json").read_text()))


def test_a_disguised_copy_is_the_same_network_and_the_witness_undresses_it(tmp_path: Path) -> None:
    disguised, element, back = tmp_path / "d.safetensors", tmp_path / "g.safetensors", tmp_path / "b.safetensors"
    assert nfn("act", RELU, "-o", disguised, "--random", "--seed", 7).code == 0
    run = nfn("equivalent", RELU, disguised, "--element", element)
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("same network up to permutations of conv1, conv2, conv3; scales of conv1")
    assert nfn("act", RELU, "-o", back, "--element", element).code == 0
    wanted = load_file(disguised)
    assert all(np.allclose(array, wanted[name], rtol=1e-5, atol=1e-7) for name, array in load_file(back).items())


def test_json_holds_the_witness_or_the_reason(tmp_path: Path) -> None:
    disguised, changed = tmp_path / "d.safetensors", tmp_path / "c.safetensors"
    assert nfn("act", TANH, "-o", disguised, "--random", "--seed", 7).code == 0
    run = nfn("equivalent", TANH, disguised, "--json")
    (line,) = run.json()
    check_schema("equivalent", line)
    assert run.code == 0
    assert sorted(line["element"]["conv1"]["permutation"]) == list(range(16))
    tensors = load_file(disguised)
    tensors["conv2.weight"][0, 0, 0, 0] *= 1.01
    save_file(tensors, changed, metadata=metadata(TANH))
    for other in (changed, RELU):
        run = nfn("equivalent", TANH, other, "--json")
        (line,) = run.json()
        check_schema("equivalent", line)
        assert (run.code, line["equivalent"], line["element"]) == (1, False, None)
        assert line["reason"]
    assert "conv2.weight" in nfn("equivalent", TANH, changed).out
    assert nfn("equivalent", TANH, changed, "--tol", 0.1).code == 0


def test_a_row_of_a_zoo_and_a_file_of_its_weights_are_one_network(tmp_path: Path) -> None:
    """The file does not tell how positions are pooled; the answer says that this was taken to be alike."""
    row, file = f"{shared_data('cnn_zoo_cifar10gs')}#3", tmp_path / "row.safetensors"
    tensors = {name: np.array(array) for name, array in nfn_cli.load(row).tensors.items()}
    save_file(tensors, file)
    moved = tmp_path / "moved.safetensors"
    assert nfn("act", file, "-o", moved, "--random", "--seed", 2, "--activation", "relu").code == 0
    for pair in ((row, moved), (moved, row)):
        run = nfn("equivalent", *pair, "--activation", "relu", "--json")
        (line,) = run.json()
        check_schema("equivalent", line)
        assert (run.code, line["equivalent"]) == (0, True)
        assert line["assumed_alike"] == ["strides", "paddings", "pooling"]
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] * np.float32(1.5)}, moved)
    run = nfn("equivalent", row, moved, "--activation", "relu")
    assert run.code == 1
    assert "taken to be alike: strides, paddings and pooling" in " ".join(run.out.split())


def test_bad_input_is_refused_and_not_answered(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    save_file({**load_file(RELU), "conv1.bias": np.full(16, np.nan, np.float32)}, bad, metadata(RELU))
    run = nfn("equivalent", RELU, bad, "--json")
    check_schema("equivalent", run.json()[0])
    assert run.code == 3
    assert "bad.safetensors: conv1.bias" in run.err
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(RELU), bare, metadata={"activation": "relu"})
    run = nfn("equivalent", RELU, bare)
    assert (run.code, run.out) == (3, "")
    assert "--pooling" in run.err
    assert nfn("equivalent", RELU, tmp_path / "missing").code == 4
    assert nfn("equivalent", RELU, RELU, "--tol", 0).code == 2
    assert nfn("equivalent", RELU).code == 2


def test_align_writes_the_same_function_in_the_other_frame(tmp_path: Path) -> None:
    disguised, out, element = tmp_path / "d.safetensors", tmp_path / "o.safetensors", tmp_path / "g.safetensors"
    assert nfn("act", RELU, "-o", disguised, "--random", "--seed", 7).code == 0
    run = nfn("align", RELU, "--to", disguised, "-o", out, "--element", element, "--json")
    (line,) = run.json()
    check_schema("align", line)
    assert (run.code, line["distance"] < 1e-6 < line["start"]) == (0, True)
    wanted = load_file(disguised)
    assert all(np.allclose(array, wanted[name], rtol=1e-5, atol=1e-7) for name, array in load_file(out).items())
    assert element.exists()
    assert nfn("align", RELU, "--to", disguised, "-o", out).code == 2
    run = nfn("align", RELU, "--to", TANH, "-o", tmp_path / "no.safetensors")
    assert (run.code, run.out) == (3, "")
    assert "relu" in run.err
    assert not (tmp_path / "no.safetensors").exists()


def test_align_matches_units_by_their_responses_to_data(tmp_path: Path) -> None:
    plain, disguised, out, inputs = (tmp_path / n for n in ("p.safetensors", "d.safetensors", "o.safetensors", "x.npy"))
    generator = np.random.default_rng(0)
    shapes = {"0.weight": (9, 5), "0.bias": (9,), "2.weight": (8, 9), "2.bias": (8,), "4.weight": (3, 8)}
    save_file(
        {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()},
        plain,
        metadata={"activation": "relu"},
    )
    np.save(inputs, generator.standard_normal((50, 5), np.float32))
    assert nfn("act", plain, "-o", disguised, "--random", "--seed", 7).code == 0
    run = nfn("align", plain, "--to", disguised, "-o", out, "--data", inputs, "--json")
    (line,) = run.json()
    check_schema("align", line)
    assert (run.code, line["data"], line["keep_scales"]) == (0, str(inputs), False)
    assert line["distance"] < 1e-5 < line["start"]
    again = nfn("align", plain, "--to", disguised, "-o", tmp_path / "r", "--data", inputs, "--restarts", 2)
    assert (again.code, again.out) == (2, "")
    # a file that does not tell its strides cannot be run, and that is said
    refused = nfn("align", RELU, "--to", RELU, "-o", tmp_path / "no.safetensors", "--data", inputs)
    assert (refused.code, refused.out) == (3, "")
    assert "stride" in refused.err


def test_help_says_what_a_negative_answer_means() -> None:
    text = " ".join(nfn("equivalent", "--help").out.split())
    assert "does not say that the functions differ" in text
    assert "nfn equivalent model.safetensors disguised.safetensors" in text
    assert "not the same as corresponding" in " ".join(nfn("align", "--help").out.split())
