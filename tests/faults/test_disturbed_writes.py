"""Killed, interrupted, or out of disk at any system call: the output is absent, the old file, or the complete new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.running import RELU, TANH
from tests.faults.disturbed import Disturber, disturber
from tests.faults.sweep import OLD

CODES = {"KILL": -signal.SIGKILL, "INT": 130, "TERM": 143, "FULL": 4}


@pytest.fixture(scope="module")
def disturb(tmp_path_factory: pytest.TempPathFactory) -> Disturber:
    return disturber(tmp_path_factory.mktemp("disturber"))


COMMANDS = {
    "canonicalize": ["canonicalize", str(TANH)],
    "act": ["act", str(TANH), "--random"],
    "reduce": ["reduce", str(TANH)],
    "align": ["align", str(TANH), "--to", str(TANH)],
    "merge": ["merge", str(RELU), str(RELU)],
}


def check_every_call(disturb: Disturber, command: list[str], fault: str, old: bool, folder: Path) -> None:
    """Disturb at the first, second, … call until one run is not disturbed any more."""
    runs = disturb.sweep(fault, folder, old, [*command, "-o", "{}/out.safetensors"])
    assert len(runs) > 4  # opening, writing, flushing, appearing
    new = (folder / "complete" / "out.safetensors").read_bytes()
    for at, code, said in runs:
        out = folder / str(at) / "out.safetensors"
        found = out.read_bytes() if out.exists() else None
        assert found in ((OLD, new) if old else (None, new)), f"call {at}: neither the old nor the new file"
        if code == 0:
            assert found == new
            continue
        assert code == CODES[fault], said
        if fault != "KILL":
            left = [name for name in os.listdir(out.parent) if name not in (out.name, f"{out.name}.certificate.json")]
            assert left == [], f"call {at}: leftovers"
            assert [line for line in said.splitlines() if not line.startswith("note: ")][1:] == [], said
            assert "Traceback" not in said


@pytest.mark.parametrize(("fault", "old"), [("KILL", True), ("INT", False), ("TERM", True), ("FULL", True)])
def test_an_output_is_whole_or_not_there_whatever_ends_the_command(
    disturb: Disturber, fault: str, old: bool, tmp_path: Path
) -> None:
    check_every_call(disturb, COMMANDS["canonicalize"], fault, old, tmp_path)


@pytest.mark.parametrize(
    "fault", ["FULL", "INT", pytest.param("KILL", marks=pytest.mark.slow), pytest.param("TERM", marks=pytest.mark.slow)]
)
def test_so_is_a_large_one_that_is_written_beside_computing(disturb: Disturber, fault: str, tmp_path: Path) -> None:
    large = {"fc1.weight": np.ones((1 << 17, 40), np.float32), "fc2.weight": np.ones((2, 1 << 17), np.float32)}
    save_file(large, tmp_path / "large.safetensors", {"activation": "relu"})
    check_every_call(disturb, ["act", str(tmp_path / "large.safetensors"), "--random"], fault, True, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize("fault", ["KILL", "INT", "TERM", "FULL"])
@pytest.mark.parametrize("old", [False, True])
def test_so_it_is_for_every_command(disturb: Disturber, command: str, fault: str, old: bool, tmp_path: Path) -> None:
    check_every_call(disturb, COMMANDS[command], fault, old, tmp_path)


def test_the_disturber_does_disturb_a_program_that_writes_in_place(disturb: Disturber, tmp_path: Path) -> None:
    """Negative control: what the tests above refuse does happen to a file that is written under its own name."""
    path = tmp_path / "in-place.tmp"
    code = f"import os; h = os.open({str(path)!r}, os.O_CREAT | os.O_WRONLY); os.write(h, b'one'); os.write(h, b'two')"
    environment = disturb.environment | {"FAULT": "KILL", "FAULT_AT": "3"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"one"
