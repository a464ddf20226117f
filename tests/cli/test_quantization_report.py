"""`nfn quantization-report` and `nfn canonicalize --fold-batchnorm`, on files as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import nfn_cli

from .running import RELU, nfn
from .test_commands import check_schema


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def module() -> Small:
    torch.manual_seed(0)
    made = Small().eval()
    with torch.no_grad():
        made.norm.running_mean.normal_()
        made.norm.running_var.uniform_(0.5, 2.0)
        made.norm.weight.copy_(torch.logspace(-2, 0, 8))
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "small.pt2"
    torch.export.save(torch.export.export(module(), (torch.zeros(2, 1, 12, 12),)), path)
    return path


def images(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 12, 12), np.uint8)
    labels = generator.integers(0, 3, 60)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    return folder / "images.npz", pixels, labels


def test_each_weight_in_each_form(exported: Path) -> None:
    run = nfn("quantization-report", exported, RELU, "--json")
    assert run.code == 0, run.err
    for line in run.json():
        check_schema("quantization-report", line)
    weights = run.json()[0]["networks"][0]["weights"]
    assert [weight["tensor"] for weight in weights] == ["conv.weight", "head.weight"]
    stored = module().conv.weight.detach().numpy().reshape(8, -1)
    use = np.abs(stored).max(1) / np.abs(stored).max()
    assert np.allclose(weights[0]["forms"]["as-is"]["channel_range_use"], use, rtol=1e-3)


def test_outputs_and_accuracy_are_those_of_the_rounded_module(exported: Path, tmp_path: Path) -> None:
    path, pixels, labels = images(tmp_path)
    run = nfn("quantization-report", exported, "--data", path, "--bits", 4, "--json")
    assert run.code == 0, run.err
    (line,) = run.json()
    check_schema("quantization-report", line)
    effect = line["networks"][0]["effect"]
    model, x = module(), torch.from_numpy(pixels[:, None].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        before = model(x)
        for weight in (model.conv.weight, model.head.weight):
            step = weight.abs().max() / 7
            weight.copy_(torch.round(weight / step) * step)
        after = model(x)
    found = effect["forms"]["as-is"]
    assert found["output_change"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    assert found["accuracy"] == pytest.approx(float((after.argmax(1).numpy() == labels).mean()))
    assert effect["accuracy"] == pytest.approx(float((before.argmax(1).numpy() == labels).mean()))
    assert effect["inputs"] == 60


def test_plain_arrays_have_no_accuracy(exported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((20, 1, 12, 12)))
    (line,) = nfn("quantization-report", exported, "--data", tmp_path / "x.npy", "--rows", 7, "--json").json()
    effect = line["networks"][0]["effect"]
    assert (effect["inputs"], effect["accuracy"]) == (7, None)
    assert effect["forms"]["equalize-folded"]["output_change"] > 0


def test_what_names_do_not_tell_is_said_and_weights_are_still_reported(tmp_path: Path) -> None:
    path, _, _ = images(tmp_path)
    (line,) = nfn("quantization-report", RELU, "--data", path, "--json").json()
    check_schema("quantization-report", line)
    (network,) = line["networks"]
    assert "stride" in network["not_run"]
    assert network["effect"] is None
    assert len(network["weights"]) == 4


def test_for_people(exported: Path, tmp_path: Path) -> None:
    run = nfn("quantization-report", exported, "--data", images(tmp_path)[0])
    assert (run.code, run.err) == (0, "")
    assert "conv.weight" in run.out
    assert "accuracy" in run.out
    assert max(map(len, run.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.write_text("hello"), 3),
        (lambda path: np.savez(path, other=np.zeros(3)), 3),
        (lambda path: np.savez(path, x=np.zeros((3, 1, 12, 12)), labels=np.zeros(2, int)), 3),
        (lambda path: np.savez(path, x=np.array([object()])), 3),
        (lambda path: np.savez(path, x=np.full((3, 1, 12, 12), np.nan)), 3),
        (lambda path: None, 4),
    ],
)
def test_bad_data_gets_one_line(exported: Path, tmp_path: Path, make: object, code: int) -> None:
    make(tmp_path / "data.npz")  # type: ignore[operator]
    run = nfn("quantization-report", exported, "--data", tmp_path / "data.npz")
    assert (run.code, run.out) == (code, "")
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1


def test_wrong_bits_and_unreadable_checkpoints(tmp_path: Path) -> None:
    assert nfn("quantization-report", RELU, "--bits", 1).code == 2
    (tmp_path / "bad.st").write_text("hello")
    run = nfn("quantization-report", tmp_path / "bad.st", RELU, "--json")
    assert run.code == 3
    for line in run.json():
        check_schema("quantization-report", line)


def test_the_folded_file_loads_into_the_same_program(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "folded.pt2"
    run = nfn("canonicalize", exported, "-o", out, "--scale", "equalize", "--fold-batchnorm", "--json")
    assert run.code == 0, run.err
    (line,) = run.json()
    check_schema("canonicalize", line)
    assert line["fold_batchnorm"] is True
    x = torch.randn(2, 1, 12, 12)
    loaded = torch.export.load(out)
    with torch.no_grad():
        assert torch.allclose(loaded.module()(x), module()(x), atol=1e-5)
    assert torch.equal(loaded.state_dict["norm.running_var"], torch.ones(8))
    assert not torch.equal(loaded.state_dict["conv.weight"], module().conv.weight)


def test_folding_and_an_element_exclude_each_other(tmp_path: Path) -> None:
    out = tmp_path / "out.st"
    run = nfn("canonicalize", RELU, "-o", out, "--fold-batchnorm", "--element", tmp_path / "g.st")
    assert run.code == 2
    assert not out.exists()


def test_norms_of_an_unknown_epsilon_stay(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, out = tmp_path / "names.st", tmp_path / "out.st"
    state = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).state_dict()
    save_file(state, path)
    run = nfn("canonicalize", path, "-o", out, "--activation", "relu", "--scale", "none", "--fold-batchnorm")
    assert run.code == 0, run.err
    assert "its ε is not in the file" in run.err
    assert load_file(out)["1.running_var"].shape == (4,)


def test_the_api_has_the_function() -> None:
    report = nfn_cli.quantization_report(RELU, bits=6)
    assert report.bits == 6
    assert "nfn quantization-report model.safetensors" in nfn("quantization-report", "--help").out
