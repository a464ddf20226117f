"""`nfn reduce`: smaller files of the same container, a certificate, and refusals that touch nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nfn_cli

from .running import RELU, nfn
from .test_commands import check_schema


def weights() -> dict[str, np.ndarray]:
    """relu; unit 3 is twice unit 1, unit 5 is dead."""
    generator = np.random.default_rng(0)
    tensors = {
        "fc1.weight": generator.standard_normal((6, 4)).astype(np.float32),
        "fc1.bias": generator.standard_normal(6).astype(np.float32),
        "fc2.weight": generator.standard_normal((3, 6)).astype(np.float32),
        "fc2.bias": generator.standard_normal(3).astype(np.float32),
    }
    tensors["fc1.weight"][3], tensors["fc1.bias"][3] = 2 * tensors["fc1.weight"][1], 2 * tensors["fc1.bias"][1]
    tensors["fc2.weight"][:, 5] = 0
    return tensors


def file(folder: Path, container: str) -> Path:
    tensors, path = weights(), folder / f"model.{container}"
    if container == "safetensors":
        save_file(tensors, path, metadata={"activation": "relu", "mine": "kept"})
    elif container == "npz":
        np.savez(path, **tensors)
    else:
        import torch

        content = {"state_dict": {name: torch.from_numpy(array) for name, array in tensors.items()}, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=container != "legacy")
    return path


@pytest.mark.parametrize("container", ["safetensors", "npz", "pth", "legacy"])
def test_the_same_container_comes_out_smaller(tmp_path: Path, container: str) -> None:
    path, out = file(tmp_path, container), tmp_path / "small"
    run = nfn("reduce", path, "-o", out, "--activation", "relu", "--json")
    assert run.code == 0, run.err
    (line,) = run.json()
    check_schema("reduce", line)
    assert [(unit["index"], unit["rule"]) for unit in line["removed"]] == [(3, "duplicate"), (5, "unread")]
    assert line["parameters_after"] == 4 * 4 + 4 + 3 * 4 + 3
    before, after = nfn_cli.load(path), nfn_cli.load(out)
    assert after.container == before.container
    assert after.tensors["fc1.weight"].shape == (4, 4)
    assert np.array_equal(after.tensors["fc1.weight"], before.tensors["fc1.weight"][[0, 1, 2, 4]])
    assert json.loads((tmp_path / "small.certificate.json").read_text()) == line
    if container == "safetensors":
        assert after.metadata == before.metadata
        x = np.random.default_rng(1).standard_normal((50, 4))
        old, new = load_file(path), load_file(out)
        answers = [np.maximum(x @ t["fc1.weight"].T + t["fc1.bias"], 0) @ t["fc2.weight"].T for t in (old, new)]
        assert np.allclose(*answers, atol=1e-5)


def test_reducing_again_changes_nothing(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.st", tmp_path / "twice.st"
    assert nfn("reduce", file(tmp_path, "safetensors"), "-o", once).code == 0
    run = nfn("reduce", once, "-o", twice, "--json")
    assert run.json()[0]["units_removed"] == 0
    assert once.read_bytes() == twice.read_bytes()


def test_for_people(tmp_path: Path) -> None:
    out = tmp_path / "small.st"
    run = nfn("reduce", file(tmp_path, "safetensors"), "-o", out)
    assert (run.code, run.err) == (0, "")
    assert "1 duplicate, 1 unread" in run.out
    assert "2 units removed" in " ".join(run.out.split())


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = file(tmp_path, "safetensors")
    run = nfn("reduce", path, "--dry-run", "--json")
    assert run.json()[0]["units_removed"] == 2
    assert run.json()[0]["output"] is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("-o", "x.st", "--dry-run"), 2),
        (("--dry-run", "--input-range", "1", "0"), 2),
        (("--dry-run", "--tolerance", "0.9"), 2),
        (("-o", "{path}"), 2),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    path = file(tmp_path, "safetensors")
    before = path.read_bytes()
    run = nfn("reduce", path, *(argument.format(path=path) for argument in arguments))
    assert (run.code, run.out) == (code, "")
    assert path.read_bytes() == before


def test_an_existing_certificate_is_not_overwritten(tmp_path: Path) -> None:
    path, out = file(tmp_path, "safetensors"), tmp_path / "small.st"
    (tmp_path / "small.st.certificate.json").write_text("mine")
    run = nfn("reduce", path, "-o", out)
    assert run.code == 2
    assert not out.exists()
    assert nfn("reduce", path, "-o", out, "--force").code == 0


def test_units_off_on_the_stated_range_go(tmp_path: Path) -> None:
    tensors = weights()
    tensors["fc1.bias"][0] = -1.01 * np.abs(tensors["fc1.weight"][0]).sum()
    path = tmp_path / "m.st"
    save_file(tensors, path, metadata={"activation": "relu"})
    plain, ranged = (
        nfn("reduce", path, "--dry-run", "--json", *range).json()[0]["by_rule"]["always-off"]
        for range in ((), ("--input-range", "-1", "1"))
    )
    assert (plain, ranged) == (0, 1)


def test_shards_stay_shards(tmp_path: Path) -> None:
    tensors, source = weights(), tmp_path / "source"
    source.mkdir()
    parts = {"a.safetensors": ["fc1.weight"], "b.safetensors": ["fc1.bias", "fc2.weight", "fc2.bias"]}
    for name, members in parts.items():
        save_file({member: tensors[member] for member in members}, source / name)
    index = {"metadata": {"total_size": 1}, "weight_map": {m: name for name, ms in parts.items() for m in ms}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    out = tmp_path / "out"
    run = nfn("reduce", source / "model.safetensors.index.json", "-o", out, "--activation", "relu")
    assert run.code == 0, run.err
    assert load_file(out / "a.safetensors")["fc1.weight"].shape == (4, 4)
    said = json.loads((out / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert said == 4 * (4 * 4 + 4 + 3 * 4 + 3)


def test_programs_with_fixed_shapes_are_refused_but_reported(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc2(torch.relu(self.fc1(x)))

    model = Net()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights().items()})
    path, out = tmp_path / "m.pt", tmp_path / "out.pt"
    torch.jit.trace(model, torch.zeros(2, 4)).save(str(path))
    run = nfn("reduce", path, "-o", out)
    assert (run.code, run.out) == (3, "")
    assert "old shapes" in run.err
    assert not out.exists()
    assert nfn("reduce", path, "--dry-run", "--json").json()[0]["units_removed"] == 2


@pytest.mark.parametrize("fault", ["text", "nan", "truncated"])
def test_bad_input_gets_one_line_and_no_output(tmp_path: Path, fault: str) -> None:
    path, out = file(tmp_path, "safetensors"), tmp_path / "out.st"
    if fault == "text":
        path.write_text("hello\n")
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        save_file(weights() | {"fc2.bias": np.full(3, np.nan, np.float32)}, path, metadata={"activation": "relu"})
    run = nfn("reduce", path, "-o", out)
    assert (run.code, run.out) == (3, "")
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_failures_are_answered_in_json(tmp_path: Path) -> None:
    (line,) = nfn("reduce", tmp_path / "none.st", "--dry-run", "--json").json()
    check_schema("reduce", line)


def test_help_has_examples_and_the_api_has_the_function() -> None:
    assert "nfn reduce model.safetensors" in nfn("reduce", "--help").out
    result = nfn_cli.reduce(RELU, how=nfn_cli.ReduceOptions(input_range=(-1, 1)))
    assert result.relative_change < 1e-6
