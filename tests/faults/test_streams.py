"""Standard output and error as shells give them: closed, full, with few letters. The exit code never lies."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import NFN, RELU


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line for a shell, in which `nfn` is the installed command."""
    line = command.replace("nfn ", f"{shlex.quote(str(NFN))} ").replace("RELU", shlex.quote(str(RELU)))
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment
    )


@pytest.mark.parametrize("command", ["nfn digest RELU", "nfn digest RELU --json", "nfn --help"])
def test_a_full_disk_behind_standard_output_is_said(command: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = shell(f"{command} > /dev/full")
    assert (done.returncode, done.stderr) == (4, "error: reading or writing failed (No space left on device)\n")


def test_a_closed_standard_output_is_said_and_takes_no_file(tmp_path: Path) -> None:
    done = shell(f"nfn canonicalize RELU -o {shlex.quote(str(tmp_path))}/x >&-")
    assert done.returncode == 4
    assert done.stderr == "error: standard output is closed; lead it to a file, or to /dev/null\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
@pytest.mark.parametrize(("command", "code"), [("nfn digest missing", 4), ("nfn act RELU -o x", 2)])
def test_errors_that_nobody_can_read_have_their_exit_code(command: str, code: int, where: str) -> None:
    assert shell(f"{command} 2>{where}").returncode == code


def test_a_closed_standard_input_holds_no_input() -> None:
    done = shell("nfn digest - <&-")
    assert (done.returncode, done.stderr) == (2, "error: no input on standard input\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_a_terminal_lacks_are_spelled(encoding: str) -> None:
    done = shell("nfn symmetry-report RELU && nfn act --help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "R>0^16 \\u22ca S_16" in done.stdout
    assert "R>0^16 ⋊ S_16" in shell("nfn symmetry-report RELU", PYTHONIOENCODING="utf-8").stdout
