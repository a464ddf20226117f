"""`nfn barrier`, on files as people have them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import nfn_cli
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.match.barrier import Curves

from .running import RELU, nfn
from .test_commands import check_schema, mlp
from .test_merge import exported, images


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A network, its disguise, and inputs with the labels that it gives them."""
    tmp_path = tmp_path_factory.mktemp("pair")
    one, other, data = mlp(tmp_path / "a.st", {"activation": "tanh"}), tmp_path / "b.st", tmp_path / "d.npz"
    assert nfn("act", one, "-o", other, "--random", "--seed", 1).code == 0
    x = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)
    w = load_file(one)
    labels = (np.tanh(x @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T).argmax(1)
    np.savez(data, inputs=x, labels=labels)
    return one, other, data


def test_one_network_in_two_frames_has_a_barrier_until_it_is_aligned(
    pair: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, other, data = pair
    plot = tmp_path / "curve.png"
    run = nfn("barrier", one, other, "--data", data, "--points", 5, "--plot", plot, "--json")
    assert (run.code, run.err) == (0, "")
    (line,) = run.json()
    check_schema("barrier", line)
    assert line["shares"] == [0, 0.25, 0.5, 0.75, 1]
    (network,) = line["networks"]
    assert (network["loss"], network["inputs"], network["batch_norm_batches"]) == ("cross-entropy", 80, None)
    assert network["aligned"]["barrier"] < 1e-5
    assert network["aligned"]["accuracy"] == [1.0] * 5
    assert network["naive"]["barrier"] > 0.05  # negative control
    assert network["naive"]["accuracy_lost"] > 0.05
    assert line["objective"] < 1e-6 < line["start"]
    with Image.open(plot) as image:
        assert image.size[0] > image.size[1] > 100
    again = nfn_cli.barrier(one, other, data=data, points=5).as_json()["networks"][0]
    assert again["naive"] == network["naive"]


def test_units_may_be_matched_by_their_responses(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, other, data = pair
    (line,) = nfn("barrier", one, other, "--data", data, "--match", "activations", "--json").json()
    check_schema("barrier", line)
    assert line["match"] == "activations"
    assert line["networks"][0]["aligned"]["barrier"] < 1e-5
    # of a stranger other units respond alike than have like weights
    draw = np.random.default_rng(5).standard_normal
    stranger = mlp(tmp_path / "c.st", {"activation": "tanh"}, **{"fc1.weight": draw((6, 4)).astype(np.float32)})
    found = [
        nfn("barrier", one, stranger, "--data", data, "--match", by, "--json").json()[0]["objective"]
        for by in ("weights", "activations")
    ]
    assert found[0] < found[1]
    for wrong in (("--match", "colours"), ("--match", "activations", "--restarts", 2)):
        assert nfn("barrier", one, other, "--data", data, *wrong).code == 2


def test_for_people_and_as_a_drawing(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, other, data = pair
    plot = tmp_path / "curve.svg"
    run = nfn("barrier", one, other, "--data", data, "--plot", plot)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0] == "cross-entropy over 80 inputs"
    assert len([line for line in lines if line.split()[0].replace(".", "").isdigit()]) == 11
    assert max(map(len, lines)) <= 80
    assert "barrier: " in run.out
    texts = [element.text or "" for element in ElementTree.parse(plot).getroot()]
    assert any(text.startswith("aligned: barrier 0.00") for text in texts)
    assert "accuracy" in texts
    kept = plot.read_bytes()
    refused = nfn("barrier", one, other, "--data", data, "--plot", plot)
    assert (refused.code, refused.out, plot.read_bytes()) == (2, "", kept)


def test_without_labels_answers_are_compared_with_those_between_the_ends(
    pair: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, other, _ = pair
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((30, 4)))
    (line,) = nfn("barrier", one, other, "--data", tmp_path / "x.npy", "--points", 3, "--json").json()
    check_schema("barrier", line)
    (network,) = line["networks"]
    assert network["loss"] == "squared distance to the answers of the ends"
    assert network["naive"]["accuracy"] is None
    assert network["naive"]["loss"][0] == network["naive"]["loss"][-1] == 0
    assert network["aligned"]["barrier"] < 1e-8 < 1e-3 < network["naive"]["barrier"]


def test_batch_norm_statistics_are_measured_on_the_data_that_are_named(tmp_path: Path) -> None:
    paths = [exported(tmp_path, seed) for seed in (1, 2)]
    images(tmp_path / "test.npz", 40)
    images(tmp_path / "train.npz", 30, seed=9)
    ways: list[dict[str, object]] = [{}, {"batch_norm_data": tmp_path / "train.npz"}, {"batch_norm": "average"}]
    losses = []
    for way in ways:
        found = nfn_cli.barrier(*paths, data=tmp_path / "test.npz", points=3, **way)  # type: ignore[arg-type]
        (network,) = found.networks
        assert isinstance(network, Curves)
        assert network.batches == (None if "batch_norm" in way else 1)
        losses.append([point.loss for point in network.aligned.points])
    assert all(not np.allclose(losses[0], other, rtol=1e-3) for other in losses[1:])
    where = ["--data", tmp_path / "test.npz", "--batch-norm-data", tmp_path / "train.npz"]
    (line,) = nfn("barrier", *paths, *where, "--points", 3, "--json").json()
    check_schema("barrier", line)
    assert line["networks"][0]["aligned"]["loss"] == losses[1]


def test_labels_that_do_not_fit_are_refused(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, other, _ = pair
    np.savez(tmp_path / "d.npz", inputs=np.zeros((80, 4), np.float32), labels=np.full(80, 3))
    run = nfn("barrier", one, other, "--data", tmp_path / "d.npz", "--json")
    assert run.code == 3
    (line,) = run.json()
    check_schema("barrier", line)
    assert line["error"]["code"] == "bad-inputs"
    assert "label 3 for a network of 3 classes" in line["error"]["message"]
    np.savez(tmp_path / "d.npz", inputs=np.zeros((80, 4), np.float32), labels=np.zeros(79, int))
    with pytest.raises(Refused, match="80 inputs have labels"):
        nfn_cli.barrier(one, other, data=tmp_path / "d.npz")


def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    images(tmp_path / "data.npz", 5)
    run = nfn("barrier", RELU, RELU, "--data", tmp_path / "data.npz")
    assert (run.code, run.out) == (3, "")
    assert "stride" in run.err
    assert "--arch" in run.err
    assert nfn("barrier", RELU, RELU).code == 2  # no data
    with pytest.raises(WrongUsage, match="three points"):
        nfn_cli.barrier(RELU, RELU, data=tmp_path / "data.npz", points=2)
