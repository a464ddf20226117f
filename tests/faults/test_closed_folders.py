"""Outputs where nothing can be written: said before any work is done, in one line, and nothing else is written."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nfn_cli.graph import NameOptions
from nfn_cli.zoo.scan_jobs import done, jobs_of
from tests.cli.running import NFN, RELU
from tests.train.made_zoo import RELU as SMALL
from tests.train.made_zoo import write_made_zoo
from tests.zoo.making import image_file

_DROP_CAPABILITY, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2


def as_anybody() -> None:
    """Even for root permissions hold from here on."""
    if os.geteuid() == 0:
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_DROP_CAPABILITY, capability, 0, 0, 0)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(NFN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, preexec_fn=as_anybody)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    image_file(folder / "dots")
    write_made_zoo(folder / "made", SMALL, runs=4)
    return folder


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be made."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    probe = subprocess.run(["touch", str(folder / "x")], preexec_fn=as_anybody, capture_output=True, check=False)
    if probe.returncode == 0:
        pytest.skip("permissions do not hold here")
    yield folder
    folder.chmod(0o755)


COMMANDS: dict[str, list[object]] = {
    "canonicalize": ["canonicalize", RELU, "-o", "{}/x"],
    "canonicalize --element": ["canonicalize", RELU, "-o", "open/x", "--element", "{}/x"],
    "act --element-out": ["act", RELU, "--random", "-o", "open/x", "--element-out", "{}/x"],
    "reduce --certificate": ["reduce", RELU, "-o", "open/x", "--certificate", "{}/x"],
    "symmetry-report --html": ["symmetry-report", RELU, "--html", "{}/x.html"],
    "scan": ["scan", RELU, "--resume", "{}/x"],
    "zoo import": ["zoo", "import", "made", "-o", "{}/x"],
    "zoo split": ["zoo", "split", "made", "-o", "{}/x.csv"],
    "zoo train-cnns": ["zoo", "train-cnns", "--data", "dots", "-o", "{}/x"],
    "train": ["train", "generalization", "--zoo", "made", "-o", "{}/deep/x"],
    "train --work": ["train", "generalization", "--zoo", "made", "-o", "open/x", "--work", "{}/x"],
}
QUICK = ["canonicalize", "act --element-out", "train"]


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS if n not in QUICK)]
)
def test_a_closed_folder_is_said_before_anything_is_written(
    name: str, given: Path, closed: Path, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    places = {"made": given / "made", "dots": given / "dots", "open/x": tmp_path / "open" / "x"}
    done = run(*(places.get(str(word), str(word).replace("{}", str(closed))) for word in COMMANDS[name]))
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith(f"error: {closed}/")
    assert "ermission" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path / "open") == []
    assert done.stdout == ""


def test_an_open_folder_is_written_into(tmp_path: Path) -> None:
    """The control: nothing but the permission stands in the way."""
    assert run("canonicalize", RELU, "-o", tmp_path / "x").returncode == 0


def test_a_folder_that_cannot_be_listed_does_not_hide_what_comes_after_it(tmp_path: Path) -> None:
    for name in ("a", "c"):
        (tmp_path / name).mkdir()
        shutil.copy(RELU, tmp_path / name / "net.safetensors")
    (tmp_path / "b").mkdir(mode=0o000)
    done = run("scan", tmp_path, "--json")
    (tmp_path / "b").chmod(0o755)
    if done.returncode == 0:
        pytest.skip("permissions do not hold here")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert f"{tmp_path}/b" in done.stderr
    assert done.stdout.count('"kind": "network"') == 2


def test_what_vanishes_between_listing_and_reading_is_an_error_in_its_place(tmp_path: Path) -> None:
    for name in "abc":
        shutil.copy(RELU, tmp_path / f"{name}.safetensors")
    jobs = jobs_of(str(tmp_path))
    records = []
    for job in jobs:
        (tmp_path / "b.safetensors").unlink(missing_ok=True)
        records += done(job, NameOptions())
    assert [record.get("error", {}).get("code") for record in records] == [None, "no-such-file", None]
    assert records[1]["exit"] == 4
