"""Several runs on one output at once: one complete output, and every other run says that it exists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nfn_cli.checkpoint import load, save
from tests.cli.running import TANH

# processes that have imported everything wait for the starting sign, so that they do write at the same time
RUNNER = """
import sys
import nfn_cli.checkpoint.writing
from nfn_cli.checkpoint import load, save
from nfn_cli.errors import NfnError
source, out, force = sys.argv[1], sys.argv[2], sys.argv[3] == "force"
checkpoint = load(source)
print("ready", flush=True)
sys.stdin.readline()
try:
    save(checkpoint, out, force=force)
    print("written")
except NfnError as error:
    print(error.code)
"""


@pytest.mark.parametrize("force", [False, True])
def test_eight_runs_on_one_output_leave_one_complete_file(force: bool, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    command = [sys.executable, "-c", RUNNER, str(TANH), str(out), "force" if force else "new"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(8)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    answers = sorted(run.communicate(timeout=60)[0].strip() for run in runs)
    assert answers == (["written"] * 8 if force else ["output-exists"] * 7 + ["written"])
    assert os.listdir(tmp_path) == ["out.safetensors"]
    save(load(TANH), tmp_path / "alone.safetensors")
    assert out.read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
