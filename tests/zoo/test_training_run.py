"""A zoo in the making: the same bytes however it was stopped, and every network sees its own part of the images only."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.errors import WrongUsage
from nfn_cli.zoo import training_run
from nfn_cli.zoo.batched_cnn import CnnGroup
from nfn_cli.zoo.images import ImageData, ImageSet, read_images
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.training_run import MakingPlan, Progress, checkpoint_steps, image_shape, make_zoo
from tests.cli.running import NFN
from tests.zoo.making import image_file

PLAN = MakingPlan("small-cnn", ("relu", "tanh"), 0, 3, (2, 6), 8, "float32", "cpu")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def data(tmp_path: Path, **more: Any) -> ImageData:
    return read_images(image_file(tmp_path / "dots", **more), grey=True)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder = image_file(tmp_path / "dots")
    images = read_images(folder, grey=True)
    plan = replace(PLAN, architecture="heterogeneous", group_size=2, checkpoints=(12, 40))
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    options = ["--data", folder, "--runs", 12, "--group-size", 2, "--steps", 40, "--batch-size", 8, "--threads", 1]
    options += ["--architecture", "heterogeneous", "--activation", "relu,tanh", "-o", broken]
    command = [str(NFN), "zoo", "train-cnns", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not list(broken.glob("shards/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    done = len(list(broken.glob("shards/*.safetensors")))
    assert 1 <= done < 6
    assert len(make_zoo(broken, plan, images, groups=6)) == 6 - done
    make_zoo(whole, plan, images, groups=6)
    kept = {name: value for name, value in contents(broken).items() if not name.endswith(".tmp")}
    assert kept == contents(whole)


@pytest.mark.slow  # each process loads torch for itself
def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    images = data(tmp_path)
    for name, threads in (("one", 1), ("two", 2)):
        make_zoo(tmp_path / name, PLAN, images, groups=4, threads=threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    images = data(tmp_path)
    for name, plan in (("a", PLAN), ("b", PLAN), ("c", replace(PLAN, seed=1))):
        make_zoo(tmp_path / name, plan, images, groups=2)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a["shards/group-000000.safetensors"] != c["shards/group-000000.safetensors"]


def test_more_runs_are_added_to_what_is_there(tmp_path: Path) -> None:
    images = data(tmp_path)
    assert make_zoo(tmp_path / "zoo", PLAN, images, groups=1) == [0]
    before = contents(tmp_path / "zoo")
    assert make_zoo(tmp_path / "zoo", PLAN, images, groups=3) == [1, 2]
    assert before.items() <= contents(tmp_path / "zoo").items()


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 9}, {"checkpoints": (6,)}, {"activations": ("relu",)}])
def test_another_plan_is_not_mixed_into_a_zoo(tmp_path: Path, change: dict[str, Any]) -> None:
    images = data(tmp_path)
    make_zoo(tmp_path / "zoo", PLAN, images, groups=1)
    before = contents(tmp_path / "zoo")
    with pytest.raises(WrongUsage, match="another zoo"):
        make_zoo(tmp_path / "zoo", replace(PLAN, **change), images, groups=2)
    assert contents(tmp_path / "zoo") == before


def test_other_images_are_not_mixed_into_a_zoo(tmp_path: Path) -> None:
    images = data(tmp_path)
    make_zoo(tmp_path / "zoo", PLAN, images, groups=1)
    other = images.train.images.copy()
    other[0, 0, 0, 0] ^= 1
    with pytest.raises(WrongUsage, match="another zoo"):
        make_zoo(tmp_path / "zoo", PLAN, replace(images, train=ImageSet(other, images.train.labels)), groups=2)


def test_the_zoo_holds_every_checkpoint_of_every_run(tmp_path: Path) -> None:
    images = data(tmp_path)
    make_zoo(tmp_path / "zoo", PLAN, images, groups=2)
    zoo = open_zoo(tmp_path / "zoo", final_only=False)
    assert len(zoo) == 2 * 3 * 2
    assert zoo.numbers("step").tolist() == [2, 6] * 6
    assert len(set(zoo.runs)) == 6
    assert len(zoo.families) == 2  # relu and tanh
    final = open_zoo(tmp_path / "zoo")
    assert final.numbers("step").tolist() == [6] * 6
    assert final.network(0).activation == ("relu",)
    tensors = zoo.families[0].tensors()
    assert not np.array_equal(tensors["head.bias"][0], tensors["head.bias"][1])  # it moved between its checkpoints


class Seen:
    """Which images each group was trained on; an image is told by its first pixel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: set[int] = set()
        step = CnnGroup.train_step

        def watched(
            group: CnnGroup, images: torch.Tensor, labels: torch.Tensor, masks: torch.Generator
        ) -> torch.Tensor:
            self.images |= set(images[:, 0, 0, 0].tolist())
            return step(group, images, labels, masks)

        monkeypatch.setattr(CnnGroup, "train_step", watched)


def test_a_group_sees_its_fraction_of_the_training_set_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = data(tmp_path, train=200)
    images.train.images[:, 0, 0, 0] = np.arange(200)
    plan = replace(PLAN, checkpoints=(40,), group_size=1, batch_size=50)
    placed = training_run.place(images, "cpu")
    (tmp_path / "zoo" / "shards").mkdir(parents=True)
    counts = {}
    for index in range(12):
        seen = Seen(monkeypatch)
        training_run.train_group(tmp_path / "zoo", plan, placed, index, lambda work: None)
        counts[plan.group(index, image_shape(images))[1].train_fraction] = len(seen.images)
        monkeypatch.undo()
    assert counts == {0.1: 20, 0.25: 50, 0.5: 100, 1.0: 200}


def test_progress_is_told_of_all_the_work_and_no_more(tmp_path: Path) -> None:
    class Counted(Progress):
        def begin(self, total: float, done: float, networks: int) -> None:
            self.total, self.done, self.networks = total, done, networks

        def advance(self, work: float) -> None:
            self.done += work

    images, counted = data(tmp_path), Counted()
    make_zoo(tmp_path / "zoo", PLAN, images, groups=1, progress=counted)
    assert counted.done == pytest.approx(counted.total)
    make_zoo(tmp_path / "zoo", PLAN, images, groups=2, progress=counted)
    assert counted.networks == 3
    assert counted.done == pytest.approx(counted.total)


def test_checkpoints_are_fractions_and_the_end_is_one_of_them() -> None:
    assert checkpoint_steps(1000, (0.3,)) == (300, 1000)
    assert checkpoint_steps(3, (0.01, 0.5, 1.0)) == (1, 2, 3)
    for wrong in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(WrongUsage):
            checkpoint_steps(10, (wrong,))
