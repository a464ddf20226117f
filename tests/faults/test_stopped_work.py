"""Long work that is interrupted or killed goes on with the same command, and ends with what an unbroken run gives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.running import NFN, RELU, TANH, nfn
from tests.train.made_zoo import MIXED, write_made_zoo
from tests.train.made_zoo import RELU as SMALL
from tests.zoo.making import image_file


@dataclass(frozen=True)
class Work:
    """A command and when it has begun: `{}` in its arguments is the folder of a run.

    Attributes:
        begun: folder of the run -> whether something is done that a second run need not do again.
        result: what is to be the same, in that folder; "" for standard output.
    """

    arguments: tuple[object, ...]
    begun: Callable[[Path], bool]
    result: str

    def given(self, folder: Path) -> list[str]:
        return [str(argument).replace("{}", str(folder)) for argument in self.arguments]


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def shards(folder: Path) -> int:
    return len(list(folder.glob("zoo/shards/*.safetensors")))


def scanned(folder: Path) -> int:
    log = folder / "log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    given = tmp_path_factory.mktemp("given")
    images = image_file(given / "dots")
    write_made_zoo(given / "made", SMALL, MIXED, runs=24)
    (given / "many").mkdir()
    for number in range(24):
        shutil.copy((RELU, TANH)[number % 2], given / "many" / f"{number:03}.safetensors")
    cnns: tuple[object, ...] = (
        "zoo",
        "train-cnns",
        "--data",
        images,
        "--runs",
        6,
        "--group-size",
        1,
        "--steps",
        30,
        "--batch-size",
        4,
    )
    inrs: tuple[object, ...] = (
        "zoo",
        "fit-inrs",
        "--dataset",
        images,
        "--train",
        20,
        "--test",
        4,
        "--steps",
        100,
        "--hidden",
        "8,8",
    )
    inrs += ("--group-size", 6, "--threads", 1)
    quick = ("--epochs", 80, "--folds", 2, "--test-fraction", 0.3, "--work", "{}/work", "--seed", 1)
    scan = ("scan", given / "many", "--json", "--resume", "{}/log")
    return {
        "train-cnns": Work((*cnns, "--threads", 1, "-o", "{}/zoo"), lambda f: shards(f) > 0, "zoo"),
        "train-cnns, processes": Work((*cnns, "--threads", 2, "-o", "{}/zoo"), lambda f: shards(f) > 0, "zoo"),
        "fit-inrs": Work((*inrs, "-o", "{}/zoo"), lambda f: shards(f) > 0, "zoo"),
        "train generalization": Work(
            ("train", "generalization", "--zoo", given / "made", "--model", "unit-graph", *quick, "-o", "{}/out"),
            lambda f: any((f / "work").glob("*.pt")),
            "out",
        ),
        "scan": Work(scan, lambda f: scanned(f) > 0, ""),
        "scan, processes": Work((*scan, "--jobs", 2), lambda f: scanned(f) > 0, ""),
    }


@pytest.fixture(scope="module")
def unbroken(work: dict[str, Work], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """What the command gives that nothing disturbs; made once for each."""
    known: dict[str, object] = {}

    def made(name: str) -> object:
        plain = name.removesuffix(", processes")
        if plain not in known:
            folder = tmp_path_factory.mktemp("unbroken")
            known[plain] = finished(work[plain], folder)
        return known[plain]

    return made


def finished(work: Work, folder: Path) -> object:
    run = nfn(*work.given(folder))
    assert run.code == 0, run.err
    if not work.result:
        return run.out
    return {name: content.replace(str(folder).encode(), b"") for name, content in files(folder / work.result).items()}


def stopped(work: Work, folder: Path, how: signal.Signals) -> tuple[int, str]:
    """Exit code and standard error of a run that gets the signal when it has begun, as a terminal gives it: all its processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(NFN), *work.given(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not work.begun(folder) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be stopped"
        os.killpg(process.pid, how)
        _, said = process.communicate(timeout=30)
    return process.returncode, said


NAMES = ["train-cnns", "train-cnns, processes", "fit-inrs", "train generalization", "scan", "scan, processes"]
QUICK = [("fit-inrs", signal.SIGINT), ("scan, processes", signal.SIGINT)]
SLOW = [(name, how) for name in NAMES for how in (signal.SIGINT, signal.SIGKILL) if (name, how) not in QUICK]


@pytest.mark.parametrize(("name", "how"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)])
def test_work_that_was_stopped_goes_on(
    work: dict[str, Work], unbroken: Callable[[str], object], tmp_path: Path, name: str, how: signal.Signals
) -> None:
    code, said = stopped(work[name], tmp_path, how)
    left = [path for path in files(tmp_path) if path.endswith(".tmp")]
    if how == signal.SIGINT:
        assert (code, said) == (130, "interrupted\n")
        assert left == []
    else:
        assert code == -signal.SIGKILL
        time.sleep(0.3)
    assert not (tmp_path / "out").exists()
    assert finished(work[name], tmp_path) == unbroken(name)
    assert [path for path in files(tmp_path) if path.endswith(".tmp")] == []
