"""A mapped file that becomes shorter while it is read: one line, and the exit code of a refused input; nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import RELU, ROOT
from tests.train.made_zoo import RELU as SMALL
from tests.train.made_zoo import write_made_zoo

pytest.importorskip("fcntl")

# The command itself, in a process in which the first bytes of an input are all that is left once something is called.
CUT = """
import os, sys
file, moment, *sys.argv[1:] = sys.argv[1:]
module, name = moment.split(":")
place = __import__(module, fromlist=["_"])
real = getattr(place, name)
def cutting(*arguments, **named):
    found = None if name.startswith("write") else real(*arguments, **named)
    os.truncate(file, 4096)
    return found if found is not None else real(*arguments, **named)
setattr(place, name, cutting)
sys.argv[0] = "nfn"
{}
"""
MAIN = "from nfn_cli.cli.main import main; main()"
MAPPED = "nfn_cli.checkpoint.mapped_tensors:_mapped"


def run(file: Path, moment: str, *arguments: object, last: str = MAIN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CUT.format(last), str(file), moment, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=100, cwd=ROOT)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    shutil.copy(RELU, tmp_path / "in" / "net.safetensors")
    return tmp_path / "in" / "net.safetensors"


@pytest.mark.parametrize("command", ["digest", "symmetry-report"])
def test_it_is_an_error_of_that_input(given: Path, command: str) -> None:
    done = run(given, MAPPED, command, given, "--json")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(f"error: {given}: ")
    assert done.stderr.count("\n") == 1
    answer = json.loads(done.stdout)
    assert (answer["path"], answer["error"]["code"]) == (str(given), "truncated")


def test_answers_that_were_given_before_it_are_kept(given: Path) -> None:
    done = run(given, MAPPED, "digest", RELU, given)
    assert done.returncode == 3
    assert done.stdout.count("\n") == 1
    assert str(RELU) in done.stdout


@pytest.mark.parametrize("moment", [MAPPED, "nfn_cli.checkpoint.safetensors_file:write_tensors"])
def test_nothing_is_written_and_the_old_output_stays(given: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("old")
    done = run(given, moment, "canonicalize", given, "-o", out / "x", "--force")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(out) == ["x"]
    assert (out / "x").read_text() == "old"


@pytest.mark.parametrize("container", ["npz", "pt", "zoo"])
def test_so_it_is_for_whatever_maps_files(container: str, tmp_path: Path) -> None:
    tensors = {
        f"{i}.{role}": np.ones((64, 64) if role == "weight" else 64) for i in (0, 1) for role in ("weight", "bias")
    }
    file = source = tmp_path / f"net.{container}"
    if container == "npz":
        np.savez(file, **tensors)  # type: ignore[arg-type]
    elif container == "pt":
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, file)
    else:
        write_made_zoo(tmp_path / "zoo", SMALL, runs=50)
        (file,) = (tmp_path / "zoo").rglob("*.safetensors")
        source = Path(f"{tmp_path / 'zoo'}#90")
    done = run(file, "nfn_cli.checkpoint.reading:_load", "digest", source)
    assert done.returncode == 3, done.stderr
    assert "became shorter" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_last_word_such_a_process_is_killed(given: Path) -> None:
    """Negative control: the system does send the signal."""
    reading = f"from nfn_cli.checkpoint import load; [a.sum() for a in load({str(given)!r}).tensors.values()]"
    assert run(given, MAPPED, last=reading).returncode == -signal.SIGBUS
