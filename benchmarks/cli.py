"""Start-up of the command as ratios in one run: python benchmarks/cli.py

Interleaved runs, medians: `nfn --help` against `python -c "import typer, rich"`, and a symmetry report on the shipped CNN of
4,970 parameters against `python -c "import torch"`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from figures import figure

ROOT = Path(__file__).resolve().parents[1]
NFN = Path(sys.executable).with_name("nfn")
EXAMPLE = ROOT / "models" / "examples" / "cifar10gs-relu.safetensors"


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    commands = {
        "import typer, rich": [sys.executable, "-c", "import typer, rich"],
        "import torch": [sys.executable, "-c", "import torch"],
        "nfn --help": [str(NFN), "--help"],
        "nfn symmetry-report (4,970 parameters)": [str(NFN), "symmetry-report", str(EXAMPLE)],
        "nfn symmetry-report --json": [str(NFN), "symmetry-report", str(EXAMPLE), "--json"],
    }
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    base = statistics.median(times["import typer, rich"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:42s} {median:7.3f} s   {median / base:5.2f} × the first line")
    figure("help", statistics.median(times["nfn --help"]) / base)
    report = statistics.median(times["nfn symmetry-report (4,970 parameters)"])
    figure("report", report / statistics.median(times["import torch"]))


if __name__ == "__main__":
    main()
