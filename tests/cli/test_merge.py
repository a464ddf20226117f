"""`nfn merge`, on files as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import nn

import nfn_cli
from nfn_cli.cli.data_options import numbers
from nfn_cli.errors import Refused, WrongUsage

from ..graph.onnx_maker import Maker
from .running import RELU, TANH, nfn
from .test_commands import check_schema, mlp


class Normed(nn.Module):
    """What `exported` writes, as a module: its tensors in the order of the file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6)
        self.two, self.again = nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)
        names = [name for name in self.state_dict() if "tracked" not in name]
        found = tensors(path)
        assert len(names) == len(found)
        self.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in zip(names, found, strict=True)}, strict=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.one(x)))
        return self.head(torch.relu(self.again(self.two(x))).mean((2, 3)))


def tensors(path: Path) -> list[np.ndarray]:
    return [onnx.numpy_helper.to_array(weight) for weight in onnx.load(str(path)).graph.initializer]


def exported(folder: Path, seed: int) -> Path:
    """A small network with batch norms, with all that running it needs."""
    made = Maker(["n", 1, 12, 12], seed=seed)
    x = made.conv("x", 1, 6, strides=[2, 2], pads=[0] * 4)
    x = made.node("Relu", _norm(made, x, 6))
    x = made.conv(x, 6, 5, pads=[0] * 4)
    x = made.node("Relu", _norm(made, x, 5))
    x = made.node("Flatten", made.node("GlobalAveragePool", x))
    return made.save(folder / f"net{seed}.onnx", made.linear(x, 5, 3))


def _norm(made: Maker, x: str, n: int) -> str:
    roles = [made.weight(n), made.weight(n), made.weight(n), made.weight(n, positive=True)]
    normed: str = made.node("BatchNormalization", x, *roles, epsilon=1e-5)
    return normed


def images(path: Path, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 12, 12), np.uint8)
    np.savez(path, images=pixels, labels=generator.integers(0, 3, count))
    return pixels


def test_a_network_merged_with_its_disguise_is_itself(tmp_path: Path) -> None:
    moved, out = tmp_path / "moved.safetensors", tmp_path / "out.safetensors"
    assert nfn("act", RELU, "-o", moved, "--random", "--seed", 3).code == 0
    run = nfn("merge", RELU, moved, "-o", out, "--weights", "0.7,0.3", "--json")
    assert (run.code, run.err) == (0, "")
    (line,) = run.json()
    check_schema("merge", line)
    assert [member["weight"] for member in line["members"]] == pytest.approx([0.7, 0.3])
    assert line["members"][1]["distance"] < 1e-5
    assert line["members"][1]["moved"] > 30
    before, after, other = load_file(RELU), load_file(out), load_file(moved)
    assert all(np.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert not np.allclose(before["conv1.weight"], other["conv1.weight"], atol=1e-2)  # negative control
    with safe_open(out, "np") as new, safe_open(RELU, "np") as old:
        assert new.metadata() == old.metadata()


def test_units_may_be_matched_by_their_responses(tmp_path: Path) -> None:
    """Each network with the first: responses to a mean of others are not asked for."""
    paths, data = [exported(tmp_path, seed) for seed in (1, 2, 3)], tmp_path / "data.npz"
    images(data, 50)
    lines = {}
    for by in ("weights", "activations"):
        out = tmp_path / f"{by}.onnx"
        run = nfn("merge", *paths, "-o", out, "--data", data, "--pixels", 0, 1, "--match", by, "--json")
        assert run.code == 0, run.err
        (lines[by],) = run.json()
        check_schema("merge", lines[by])
        assert lines[by]["match"] == by
    assert len(lines["activations"]["spread"]) == 1 < len(lines["weights"]["spread"])
    one, other = (line["members"][1]["objective"] for line in lines.values())
    assert one < other
    refused = nfn("merge", *paths, "-o", tmp_path / "x.onnx", "--match", "activations")
    assert (refused.code, "--data" in refused.err) == (2, True)


def test_statistics_in_the_file_are_those_of_the_merged_network_on_the_data(tmp_path: Path) -> None:
    paths = [exported(tmp_path, seed) for seed in (1, 2)]
    pixels, out, plain = images(tmp_path / "data.npz", 50), tmp_path / "out.onnx", tmp_path / "plain.onnx"
    run = nfn("merge", *paths, "-o", out, "--data", tmp_path / "data.npz", "--pixels", 0, 1, "--json")
    assert run.code == 0, run.err
    (line,) = run.json()
    check_schema("merge", line)
    trained = Normed(out)
    x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
    for norm in (trained.norm, trained.again):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        trained.train()(x)
        answers = trained.eval()(x)
    stored = Normed(out).state_dict()
    for name, array in trained.state_dict().items():
        if "running" in name:
            assert torch.allclose(stored[name], array, rtol=1e-4, atol=1e-5), name
    labels = torch.from_numpy(np.load(tmp_path / "data.npz")["labels"])
    (network,) = line["networks"]
    assert network["batch_norm_batches"] == 1
    assert network["merged"]["loss"] == pytest.approx(float(nn.functional.cross_entropy(answers, labels)), rel=1e-4)
    assert network["merged"]["accuracy"] == pytest.approx(float((answers.argmax(1) == labels).double().mean()))
    for path, member in zip(paths, network["members"], strict=True):
        with torch.no_grad():
            own = nn.functional.cross_entropy(Normed(path).eval()(x), labels)
        assert member["loss"] == pytest.approx(float(own), rel=1e-4)
    # negative control: without data they are averaged
    assert nfn("merge", *paths, "-o", plain).code == 0
    averaged = Normed(plain).state_dict()
    assert not torch.allclose(averaged["again.running_var"], stored["again.running_var"], rtol=1e-2)
    assert torch.allclose(averaged["two.weight"], stored["two.weight"])


def test_for_people_three_networks(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    paths = []
    for number in range(3):
        noise = {"fc1.weight": generator.standard_normal((6, 4)).astype(np.float32)}
        paths.append(mlp(tmp_path / f"{number}.st", {"activation": "tanh"}, **noise).name)
    np.savez(tmp_path / "d.npz", x=generator.standard_normal((20, 4)), y=generator.integers(0, 3, 20))
    out = tmp_path / "out.st"
    run = nfn("merge", "-", "-o", out, "--data", tmp_path / "d.npz", stdin="\n".join(str(tmp_path / p) for p in paths))
    assert (run.code, run.err) == (0, "")
    assert "mean of 3 networks in the frame of the first" in " ".join(run.out.split())
    assert "the mean" in run.out
    assert "cross-entropy" in run.out
    rows = [line for line in run.out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, rows)) <= 80
    weights = load_file(out)
    assert all(np.isfinite(array).all() for array in weights.values())


def test_nothing_is_written_over_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out.st"
    out.write_text("mine")
    run = nfn("merge", RELU, RELU, "-o", out)
    assert (run.code, run.out, out.read_text()) == (2, "", "mine")
    other = tmp_path / "other.st"
    other.write_bytes(RELU.read_bytes())
    run = nfn("merge", RELU, other, "-o", other, "--force")
    assert run.code == 2
    assert "input" in run.err
    assert other.read_bytes() == RELU.read_bytes()
    assert nfn("merge", RELU, other, "-o", out, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([RELU, TANH], 3, "different-architectures"),
        ([RELU, RELU, "--weights", "1,-1"], 2, "wrong-usage"),
        ([RELU, "nowhere.st"], 4, "no-such-file"),
    ],
)
def test_what_cannot_be_merged_gets_one_line_and_no_file(
    tmp_path: Path, arguments: list[object], code: int, said: str
) -> None:
    out = tmp_path / "out.st"
    run = nfn("merge", *arguments, "-o", out, "--json")
    assert run.code == code
    (line,) = run.json()
    check_schema("merge", line)
    assert line["error"]["code"] == said
    assert run.err.count("\n") == 1
    assert not out.exists()


def test_options_that_make_no_sense_are_wrong_usage() -> None:
    for how in ({"batch_norm": "guess", "data": "d.npz"}, {"batch_norm_data": "d.npz"}, {"rounds": -1}):
        with pytest.raises(WrongUsage):
            nfn_cli.merge([RELU, RELU], **how)
    with pytest.raises(WrongUsage, match="numbers with commas"):
        numbers("1,a", "--weights")
    assert numbers("1,2.5", "--weights") == [1.0, 2.5]


def test_a_network_that_cannot_be_run_has_no_statistics_measured(tmp_path: Path) -> None:
    images(tmp_path / "data.npz", 10)
    with pytest.raises(Refused, match="stride"):
        nfn_cli.merge([RELU, RELU], data=tmp_path / "data.npz")


def test_help_promises_nothing_and_the_api_does_the_same(tmp_path: Path) -> None:
    assert "not promised to work: aligned is not the same as corresponding" in " ".join(
        nfn("merge", "--help").out.split()
    )
    one, other = mlp(tmp_path / "a.st", {"activation": "relu"}), tmp_path / "b.st"
    save_file({name: array * 0.5 for name, array in load_file(one).items()}, other, {"activation": "relu"})
    done = nfn_cli.merge([one, other], weights=[1, 1])
    assert nfn("merge", one, other, "-o", tmp_path / "c.st").code == 0
    stored = load_file(tmp_path / "c.st")
    assert all(np.array_equal(stored[name], done.checkpoint.tensors[name]) for name in stored)
