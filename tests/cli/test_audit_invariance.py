"""`nfn audit-invariance`: the answer on standard output, what a user's function prints beside it, exit code 1 for a failure."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from .running import NFN, RELU, TANH, Run

MODULE = """
import os
import numpy as np
print("hello from the module")

def norms(state):
    print("hello from the function")
    os.system("echo hello from a child")
    return np.sort([np.linalg.norm(state[name].astype(float)) for name in sorted(state)])

def first(state):
    assert type(state["conv1.weight"]).__name__ == "Tensor", type(state["conv1.weight"])
    return {"entry": state["conv1.weight"][0, 0, 0, 0], "list": [1, 2.5]}

def raising(state):
    raise ValueError("no such\\nnetwork")

class Model:
    def __call__(self, state):
        return float(np.abs(state["fc.bias"]).sum())

model = Model()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def audit(folder: Path, *arguments: object, stdin: str = "") -> Run:
    done = subprocess.run(
        [str(NFN), "audit-invariance", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return Run(done.returncode, done.stdout, done.stderr)


def check_schema(line: dict) -> None:
    jsonschema.validate(line, json.loads((files("nfn_cli") / "schemas" / "audit-invariance.json").read_text()))


def by_generator(line: dict) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in line["generators"]:
        found.setdefault(entry["generator"], set()).add(entry["verdict"])
    return found


def test_a_shipped_predictor_passes_for_people(folder: Path) -> None:
    run = audit(folder, "generalization-cifar10gs-tanh", "--samples", 1, "--untrained", 1)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0] == "generalization-cifar10gs-tanh on 2 networks, 1 element each"
    assert lines[-1] == "verdict: pass"
    assert sum(line.startswith("permutation") and line.endswith("pass") for line in lines) == 3
    assert sum(line.startswith("sign") and line.endswith("pass") for line in lines) == 3
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in run.out


def test_a_function_that_is_not_invariant_fails_with_exit_code_1(folder: Path) -> None:
    run = audit(folder, "mine:norms", "--on", RELU, "--samples", 1, "--json")
    assert run.code == 1
    (line,) = run.json()  # nothing that was printed is among it
    check_schema(line)
    assert line["verdict"] == "fail"
    assert by_generator(line) == {
        "identity": {"pass"},
        "permutation": {"pass"},
        "scale": {"fail"},
        "power-of-two": {"fail"},
        "all": {"fail"},
    }
    for said in ("hello from the module", "hello from the function", "hello from a child"):
        assert said in run.err


def test_the_same_function_passes_where_there_are_no_scales(folder: Path) -> None:
    run = audit(folder, "mine:norms", "--on", TANH, "--samples", 1, "--json")
    assert run.code == 0
    assert by_generator(run.json()[0]) == {name: {"pass"} for name in ("identity", "permutation", "sign", "all")}


def test_reasons_are_said_to_people(folder: Path) -> None:
    run = audit(folder, "mine:norms", RELU, "--samples", 1, "--largest", 8)
    assert run.code == 1
    assert "scale 2×: moved by up to" in run.out
    assert "scale 8×: moved" not in run.out  # the first is enough
    assert "16×" not in run.out
    assert run.out.splitlines()[-1] == "verdict: fail"


def test_torch_tensors_are_given_on_request_and_several_outputs_taken(folder: Path) -> None:
    run = audit(folder, "mine:first", TANH, "--framework", "torch", "--samples", 1, "--json")
    assert run.code == 1
    assert by_generator(run.json()[0])["permutation"] >= {"fail"}


def test_an_object_that_can_be_called_is_taken_and_asked_about_the_examples(folder: Path) -> None:
    run = audit(folder, "mine:model", "--samples", 1, "--json")
    assert run.code == 0, run.err
    assert len(run.json()[0]["networks"]) == 10  # both examples and four copies of each


def test_a_function_that_does_not_answer_gets_no_verdict_and_no_traceback(folder: Path) -> None:
    run = audit(folder, "mine:raising", RELU, "--json")
    (line,) = run.json()
    check_schema(line)
    assert (run.code, line["verdict"], line["networks"], line["generators"]) == (3, "none", [], [])
    assert line["refused"] == [{"path": str(RELU), "reason": "raised ValueError: no such"}]
    assert f"note: not judged on {RELU}: raised ValueError: no such\n" in run.err
    assert "Traceback" not in run.err


def test_a_predictor_that_takes_no_example_asks_for_networks(folder: Path) -> None:
    run = audit(folder, "mine:raising")
    assert run.code == 3
    assert run.err.endswith("note: it takes none of the examples; name networks that it takes: --on CKPT\n")
    assert run.out.splitlines()[-1] == "verdict: none, too little could be judged"


def test_what_cannot_be_imported_is_wrong_usage(folder: Path) -> None:
    (folder / "broken.py").write_text("print('on the way')\n1 / 0\n")
    run = audit(folder, "broken:predict", RELU, "--json")
    (line,) = run.json()
    check_schema(line)
    assert (run.code, line["error"]["code"]) == (2, "bad-callable")
    assert "ZeroDivisionError" in line["error"]["message"]
    assert "Traceback" not in run.err


def test_plain_names_and_folders_are_never_run(folder: Path) -> None:
    trap = "open('ran', 'w').close()\npredict = lambda state: 1.0\n"
    (folder / "trap.py").write_text(trap)
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text(trap)
    (folder / "trap:predict").mkdir()
    for name in ("trap", "pack", "trap:predict"):
        run = audit(folder, name, RELU)
        assert (run.code, run.out) == (2, ""), name
        assert "no predictor" in run.err
    assert not (folder / "ran").exists()
    (folder / "trap:predict").rmdir()
    assert audit(folder, "trap:predict", RELU, "--samples", 1).code == 0
    assert (folder / "ran").exists()  # the trap works


def test_inputs_come_by_option_by_position_and_from_standard_input_and_a_bad_one_does_not_stop_them(
    folder: Path,
) -> None:
    run = audit(folder, "mine:model", "--on", TANH, RELU, "missing.pt", "--samples", 1, "--json")
    failed, line = run.json()
    assert (failed["path"], failed["error"]["code"]) == ("missing.pt", "no-such-file")
    check_schema(failed)
    assert (run.code, line["networks"]) == (4, [str(TANH), str(RELU)])
    listed = audit(folder, "mine:model", "--on", "-", "--samples", 1, "--json", stdin=f"{RELU}\n{TANH}\n")
    assert listed.json()[0]["networks"] == [str(RELU), str(TANH)]


def test_the_same_command_gives_the_same_bytes_and_the_seed_counts(folder: Path) -> None:
    first, second, other = (
        audit(folder, "mine:norms", RELU, "--samples", 1, "--json", *s) for s in ((), (), ("--seed", 1))
    )
    assert first.out == second.out
    assert first.out != other.out


def test_options_that_make_no_sense_are_wrong_usage(folder: Path) -> None:
    run = audit(folder, "mine:model", RELU, "--largest", "nan")
    assert (run.code, run.out) == (2, "")
    assert run.err == "error: --largest: must be between 2 and 1e9\n"
