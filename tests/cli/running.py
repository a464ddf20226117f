"""Run the installed command as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RELU = ROOT / "models" / "examples" / "cifar10gs-relu.safetensors"
TANH = ROOT / "models" / "examples" / "cifar10gs-tanh.safetensors"
NFN = Path(sys.executable).with_name("nfn")


@dataclass
class Run:
    code: int
    out: str
    err: str

    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def nfn(*arguments: object, stdin: str = "", limit_file_size: int | None = None, **environment: str) -> Run:
    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))  # type: ignore[arg-type]

    done = subprocess.run(
        [str(NFN), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        preexec_fn=limit if limit_file_size is not None else None,
    )
    return Run(done.returncode, done.stdout, done.stderr)
