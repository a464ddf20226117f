"""A command in a real process that is killed, interrupted, or told that the disk is full at each of its system calls."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Disturber:
    """The library that disturbs, compiled."""

    library: Path

    @property
    def environment(self) -> dict[str, str]:
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
        )  # forks need a process without threads
        return os.environ | threads | {"LD_PRELOAD": str(self.library)}

    def sweep(self, fault: str, folder: Path, old: bool, arguments: list[str]) -> list[tuple[int, int, str]]:
        """(call, return code, standard error) of each run; see sweep.py."""
        command = [sys.executable, str(HERE / "sweep.py"), fault, str(folder), str(int(old)), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return [(at, code, said) for at, code, said in json.loads(done.stdout)]


def disturber(folder: Path) -> Disturber:
    """Compile it, or skip the test where that cannot be done."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("needs a C compiler and /proc")
    library = folder / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "faults.c"), "-ldl"], check=True
    )
    return Disturber(library)
