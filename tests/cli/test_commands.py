"""The command contract: standard output is the answer, standard error the rest, exit codes say how it went."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from .running import NFN, RELU, TANH, nfn


def check_schema(command: str, line: dict) -> None:
    schema = json.loads((files("nfn_cli") / "schemas" / f"{command}.json").read_text())
    jsonschema.validate(line, schema)


def mlp(path: Path, metadata: dict[str, str] | None = None, **replace: np.ndarray) -> Path:
    generator = np.random.default_rng(0)
    tensors = {
        "fc1.weight": generator.standard_normal((6, 4)).astype(np.float32),
        "fc1.bias": generator.standard_normal(6).astype(np.float32),
        "fc2.weight": generator.standard_normal((3, 6)).astype(np.float32),
    } | replace
    save_file(tensors, path, metadata=metadata)
    return path


def test_symmetry_report_for_people_fits_80_columns_and_has_no_escapes() -> None:
    run = nfn("symmetry-report", RELU)
    assert (run.code, run.err) == (0, "")
    assert "R>0^16 ⋊ S_16" in run.out
    assert "outputs unchanged" in run.out
    assert max(map(len, run.out.splitlines()[1:])) <= 80  # the first line is the path
    assert "\x1b" not in run.out
    assert not set("│┃━─┏") & set(run.out)


def test_symmetry_report_json_has_one_line_an_input_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    missing = tmp_path / "no.pt"
    run = nfn("symmetry-report", RELU, missing, TANH, "--json")
    lines = run.json()
    assert [line["path"] for line in lines] == [str(RELU), str(missing), str(TANH)]
    assert lines[1]["error"]["code"] == "no-such-file"
    assert run.code == 4
    for line in lines:
        check_schema("symmetry-report", line)
    assert lines[0]["continuous_dimension"] == 48
    assert lines[0]["effective_parameters"] == 4970 - 48
    assert lines[0]["check"]["relative_change"] < 1e-10


def test_a_list_of_inputs_comes_from_standard_input() -> None:
    run = nfn("symmetry-report", "-", "--json", stdin=f"{RELU}\n\n{TANH}\n")
    assert [line["networks"][0]["activation"] for line in run.json()] == [["relu"], ["tanh"]]


def test_predictions_name_their_predictor_and_interval() -> None:
    run = nfn("predict-generalization", RELU, TANH, "--json")
    assert (run.code, run.err) == (0, "")
    for line in run.json():
        check_schema("predict-generalization", line)
        low, high = line["interval"]
        assert low <= line["predicted_test_accuracy"] <= high
        assert low < high
    weights_alone = nfn("predict-generalization", RELU, TANH, "--model", "monomial-nfn", "--json").json()
    for line, activation in zip(weights_alone, ("relu", "tanh"), strict=True):
        assert line["predictor"] == f"generalization-cifar10gs-{activation}"


def test_predictions_do_not_change_on_the_orbit(tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    assert nfn("act", RELU, "-o", moved, "--random", "--seed", 5).code == 0
    before, after = nfn("predict-generalization", RELU, moved, "--json").json()
    assert abs(before["predicted_test_accuracy"] - after["predicted_test_accuracy"]) < 1e-4
    assert not np.array_equal(load_file(RELU)["conv1.weight"], load_file(moved)["conv1.weight"])


def test_what_no_predictor_takes_is_refused_with_the_reason(tmp_path: Path) -> None:
    run = nfn("predict-generalization", mlp(tmp_path / "m.safetensors", {"activation": "relu"}))
    assert (run.code, run.out) == (3, "")
    assert run.err.count("\n") == 1
    assert "layers" in run.err


def test_canonicalize_keeps_metadata_and_dtype_and_is_idempotent(tmp_path: Path) -> None:
    once, twice, element = tmp_path / "once.st", tmp_path / "twice.st", tmp_path / "g.st"
    run = nfn("canonicalize", TANH, "-o", once, "--element", element, "--json")
    assert run.code == 0
    check_schema("canonicalize", run.json()[0])
    assert nfn("canonicalize", once, "-o", twice).code == 0
    assert once.read_bytes() == twice.read_bytes()
    from safetensors import safe_open

    with safe_open(once, "np") as new, safe_open(TANH, "np") as old:
        assert new.metadata() == old.metadata()
        assert all(new.get_tensor(k).dtype == old.get_tensor(k).dtype for k in old.keys())  # noqa: SIM118
    back = tmp_path / "back.st"
    assert nfn("act", once, "-o", back, "--element", element, "--inverse").code == 0
    assert all(np.array_equal(a, load_file(back)[n]) for n, a in load_file(TANH).items())


def test_two_members_of_an_orbit_have_one_canonical_form(tmp_path: Path) -> None:
    moved, a, b = tmp_path / "moved.st", tmp_path / "a.st", tmp_path / "b.st"
    run = nfn("act", RELU, "-o", moved, "--random", "--seed", 1, "--json")
    check_schema("act", run.json()[0])
    for source, target in ((RELU, a), (moved, b)):
        assert nfn("canonicalize", source, "-o", target).code == 0
    left, right = load_file(a), load_file(b)
    assert all(np.allclose(left[n], right[n], atol=1e-5) for n in left)


def test_powers_of_two_change_exponents_only(tmp_path: Path) -> None:
    out = tmp_path / "p.st"
    assert nfn("canonicalize", RELU, "-o", out, "--scale", "pow2", "--no-order").code == 0
    before, after = load_file(RELU), load_file(out)
    assert all(np.array_equal(np.frexp(before[n])[0], np.frexp(after[n])[0]) for n in before)


def test_the_output_is_never_overwritten_unasked_and_never_the_input(tmp_path: Path) -> None:
    out = tmp_path / "o.st"
    out.write_text("mine")
    run = nfn("canonicalize", RELU, "-o", out)
    assert (run.code, out.read_text()) == (2, "mine")
    assert "--force" in run.err
    assert nfn("canonicalize", RELU, "-o", out, "--force").code == 0
    again = nfn("canonicalize", out, "-o", out, "--force")
    assert again.code == 2
    assert "input" in again.err


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    run = nfn("canonicalize", RELU, "-o", tmp_path / "o.st", limit_file_size=1000)
    assert run.code == 4
    assert list(tmp_path.iterdir()) == []
    assert run.err.count("\n") == 1


@pytest.mark.parametrize("fault", ["truncated", "text", "empty", "nan", "inf", "activation", "no-tensors", "shapes"])
def test_bad_input_gets_one_line_and_no_output(tmp_path: Path, fault: str) -> None:
    path, out = tmp_path / "bad.safetensors", tmp_path / "out.safetensors"
    said = {"activation": "relu"}
    nan = np.zeros((3, 6), np.float32)
    expected = {"truncated": "cut short", "text": "text", "empty": "empty", "nan": "fc2.weight", "inf": "fc2.weight"}
    expected |= {"activation": "--activation", "no-tensors": "no tensors", "shapes": "fc2.weight"}
    if fault == "truncated":
        path.write_bytes(mlp(path, said).read_bytes()[:-10])
    elif fault in ("text", "empty"):
        path.write_text("hello\n" if fault == "text" else "")
    elif fault in ("nan", "inf"):
        nan[1, 2] = float(fault)
        mlp(path, said, **{"fc2.weight": nan})
    elif fault == "no-tensors":
        save_file({}, path)
    elif fault == "shapes":
        mlp(path, said, **{"fc2.weight": np.ones((3, 5), np.float32)})
    else:
        mlp(path)
    run = nfn("canonicalize", path, "-o", out)
    assert (run.code, run.out) == (3, "")
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    assert expected[fault] in run.err
    assert not out.exists()


def test_an_unknown_activation_lists_the_known_ones(tmp_path: Path) -> None:
    run = nfn("symmetry-report", mlp(tmp_path / "m.st"), "--activation", "rleu")
    assert run.code == 2
    assert "leaky_relu" in run.err


def test_control_characters_in_names_are_never_printed_raw(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    w = np.ones((3, 4), np.float32)
    save_file({"a\x1b[31m1.weight": w, "a\x1b[31m2.weight": np.ones((2, 3), np.float32)}, path, {"activation": "relu"})
    run = nfn("symmetry-report", path)
    assert "\x1b" not in run.out + run.err


def test_a_closed_pipe_ends_the_command_quietly() -> None:
    command = f"{NFN} symmetry-report {RELU} {RELU} {RELU} --json | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_wrong_usage_is_exit_code_2() -> None:
    assert nfn("canonicalize", RELU).code == 2
    assert nfn("act", RELU, "-o", "/nonexistent/x", "--random").code in (2, 4)
    assert nfn("act", RELU, "-o", "x").code == 2
    assert nfn("nonsense").code == 2
    assert nfn("--version").out.startswith("nfn ")


def commands() -> list[str]:
    """Every command as a user types it, those of sub-apps with theirs."""
    from nfn_cli.cli.main import Commands
    from nfn_cli.cli.train import TrainCommands
    from nfn_cli.cli.zoo import ZooCommands

    groups = {"zoo": ZooCommands, "train": TrainCommands}
    names = [str(listed.name) for listed in Commands.listed if listed.name not in groups]
    return names + [f"{group} {listed.name}" for group, commands in groups.items() for listed in commands.listed]


def test_every_command_has_help_with_examples() -> None:
    from typer.main import get_command
    from typer.testing import CliRunner

    from nfn_cli.cli.main import app

    assert get_command(app).name == "nfn"
    told = commands()
    assert {"act", "audit-invariance", "canonicalize", "evaluate", "predict-generalization", "predictors"} < set(told)
    assert {"reduce", "symmetry-report", "train generalization", "zoo import", "zoo info", "zoo split"} < set(told)
    for command in told:
        run = CliRunner().invoke(app, [*command.split(), "--help"])
        assert run.exit_code == 0, command
        assert f"nfn {command}" in run.output.replace("Usage: nfn", ""), (
            command
        )  # in an example, not in the usage alone


@pytest.mark.parametrize("command", ["predictors", "train-generalization"])
def test_schemas_name_every_kind_of_predictor(command: str) -> None:
    from nfn_cli.predictors.card import MODELS

    schema = json.loads((files("nfn_cli") / "schemas" / f"{command}.json").read_text())
    assert set(schema["anyOf"][0]["properties"]["model"]["enum"]) == set(MODELS)


def test_predictors_are_listed_with_their_figures() -> None:
    lines = nfn("predictors", "--json").json()
    assert {line["name"] for line in lines} >= {"generalization-cifar10gs-relu", "generalization-cifar10gs-tanh"}
    for line in lines:
        check_schema("predictors", line)
    run = nfn("predictors")
    assert (run.code, run.err) == (0, "")
    for line in lines:
        assert line["name"] in run.out
        figures = {"kendall_tau": ".3f", "accuracy": ".2%", "squared_error": ".4f"}
        assert any(f"{line[key]:{form}}" in run.out for key, form in figures.items() if key in line)
    assert "…" not in run.out  # what one takes is said to the end
    assert {line["model"] for line in lines} >= {"probe", "inr-editor"}
