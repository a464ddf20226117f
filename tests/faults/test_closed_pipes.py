"""`nfn … | head -1`: a reader that leaves ends the command quietly and with 0, not with the 1 that means "no"."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.running import NFN, TANH


@pytest.mark.parametrize("arguments", [["--help"], ["digest", "--help"], ["digest", str(TANH)], ["predictors"]])
def test_a_closed_pipe_is_no_error(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [str(NFN), *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
