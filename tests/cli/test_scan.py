"""nfn scan: copies in a folder are found, whatever hides them; a stopped scan goes on; failures stand in their place."""

from __future__ import annotations

import importlib.util
import json
import shutil
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file

from nfn_cli.graph.model import Network
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.orbit import OrbitMove, moved
from nfn_cli.zoo.store import create_zoo, write_shard
from tests.zoo.small_graphs import mlp_graph, random_stack

from .running import RELU, TANH, nfn


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, an orbit copy of one, a zoo of four rows and orbit copies of two of them, text, and a damaged file."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "deep").mkdir()
    shutil.copy(RELU, folder / "a.safetensors")
    shutil.copy(TANH, folder / "b.safetensors")
    assert nfn("act", RELU, "-o", folder / "deep" / "copy.safetensors", "--random", "--seed", 1).code == 0
    (folder / "notes.txt").write_text("no weights")
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04 nothing")
    graph = mlp_graph((6, 8, 8, 4))
    stack = random_stack(graph, 4, seed=0)
    copies = moved(graph, find_symmetry([Network("", "", graph)]), stack, OrbitMove("all", 10.0), 0)
    create_zoo(folder / "zoo", "a toy")
    both = {name: np.concatenate([array, copies[name][:2]]) for name, array in stack.items()}
    write_shard(folder / "zoo", "s-0", graph, both, {"run": list("abcdef"), "test_accuracy": np.zeros(6)})
    return folder


def test_copies_are_groups_and_failures_stand_in_their_place(collection: Path) -> None:
    run = nfn("scan", collection, "--json")
    lines = run.json()
    schema = json.loads((files("nfn_cli") / "schemas" / "scan.json").read_text())
    for line in lines:
        jsonschema.validate(line, schema)
    assert run.code == 3
    assert [Path(line["path"]).name for line in lines if "error" in line] == ["damaged.npz"]
    groups = [[Path(path).name for path in line["paths"]] for line in lines if line.get("kind") == "group"]
    assert groups == [["a.safetensors", "copy.safetensors"], ["zoo#0", "zoo#4"], ["zoo#1", "zoo#5"]]
    summary = lines[-1]
    assert (summary["networks"], summary["distinct"], summary["groups"], summary["failed"]) == (9, 6, 3, 1)
    rows = {line["path"]: line["fingerprint"] for line in lines if line.get("kind") == "network"}
    (one,) = nfn("fingerprint", f"{collection}/zoo#3", "--json").json()
    assert rows[f"{collection}/zoo#3"] == one["fingerprint"]


def test_codes_that_float16_would_change_are_named(tmp_path: Path) -> None:
    """A network and its copy, whose first layer shrank below float16 while the second grew."""
    faint = tmp_path / "zoo"
    graph = mlp_graph((6, 8, 8, 4))
    stack = random_stack(graph, 1, seed=0)
    weight, bias, following = list(graph.parameter_shapes)[:3]
    shrunk = {weight: stack[weight] * 1e-7, bias: stack[bias] * 1e-7, following: stack[following] * 1e4}
    both = {name: np.concatenate([array, shrunk.get(name, array)]) for name, array in stack.items()}
    create_zoo(faint, "two networks")
    write_shard(faint, "s-0", graph, both, {"run": ["a", "b"], "test_accuracy": np.zeros(2)})
    run = nfn("scan", faint, "--json")
    lines = run.json()
    unreliable = {line["path"] for line in lines if line.get("reliable") is False}
    assert unreliable == {f"{faint}#1"}
    assert lines[-1]["unreliable"] == 1
    assert "of 1 network weights are too small for float16" in run.err
    (alone,) = nfn("fingerprint", f"{faint}#1", "--json").json()
    assert alone["reliable"] is False


def test_several_processes_give_the_same_bytes(collection: Path) -> None:
    assert nfn("scan", collection, "--json", "--jobs", 2).out == nfn("scan", collection, "--json").out


def test_a_scan_that_was_stopped_goes_on(collection: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole = nfn("scan", collection, "--json", "--resume", log)
    done = log.read_text().splitlines(keepends=True)
    assert len(done) == 5
    log.write_text("".join(done[:2]) + done[2][:40])
    again = nfn("scan", collection, "--json", "--resume", log)
    assert (again.out, log.read_text()) == (whole.out, "".join(done))
    # what the log says is not looked at again: a lie in it comes through, unless the file changes
    lie = "2-" + "0" * 16 + "-" + "0" * 64
    record = json.loads(done[0])
    record["lines"][0]["fingerprint"] = lie
    log.write_text(json.dumps(record) + "\n")
    assert nfn("scan", collection / "a.safetensors", "--json", "--resume", log).json()[0]["fingerprint"] == lie


def test_for_people_it_prints_groups(collection: Path) -> None:
    out = nfn("scan", collection / "zoo", collection / "a.safetensors").out.splitlines()
    assert out[0].startswith("group 0: 2 copies, 0 bits apart")
    assert out[-1] == "7 networks, 5 of them distinct, 2 groups of copies"


def test_missing_things_are_named(tmp_path: Path) -> None:
    assert nfn("scan", tmp_path / "nothing").code == 4
    assert nfn("scan", tmp_path, "--ray", "auto", "--jobs", 2).code == 2
    if importlib.util.find_spec("ray") is None:
        run = nfn("scan", tmp_path, "--ray", "auto")
        assert (run.code, "nfn-cli[ray]" in run.err) == (4, True)


def test_a_single_changed_weight_matrix_is_no_copy(tmp_path: Path) -> None:
    tensors = load_file(RELU)
    shutil.copy(RELU, tmp_path / "a.safetensors")
    np.savez(tmp_path / "b.npz", **tensors | {"conv2.weight": tensors["conv2.weight"][::-1]})
    out = nfn("scan", tmp_path, "--activation", "relu").out
    assert out == "2 networks, 2 of them distinct, 0 groups of copies\n"
