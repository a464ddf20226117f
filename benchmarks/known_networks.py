"""Time and memory of commands on known networks with random weights: python benchmarks/known_networks.py [NAME…]

The files are made from the shipped graphs; neither torchvision nor timm is needed. Each figure is the median of several
whole processes, beside `import torch` in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import figure
from safetensors.numpy import save_file

from nfn_cli.graph.architecture_index import library_graph

NAMES = ("torchvision:resnet50", "torchvision:densenet121")


def weights(name: str, path: Path) -> int:
    """A float32 file of the architecture; returns its size."""
    random = np.random.default_rng(0)
    tensors = {}
    for tensor, shape in library_graph(name).parameter_shapes.items():
        values = random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        values = np.abs(values) + 0.5 if tensor.endswith("running_var") else values
        tensors[tensor] = values.astype(np.float32)
    save_file(tensors, path)
    return path.stat().st_size


def measured(command: list[str], runs: int) -> tuple[float, int]:
    """(median wall seconds, largest resident bytes)."""
    seconds, largest = [], 0
    for _ in range(runs):
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds.append(time.perf_counter() - started)
        largest = max(largest, usage.ru_maxrss * 1024)
        if status:
            sys.exit(f"{' '.join(command)} failed")
    return statistics.median(seconds), largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    base, _ = measured([sys.executable, "-c", "import torch"], arguments.runs)
    _, bare = measured([sys.executable, "-c", "import nfn_cli.api, nfn_cli.cli.main"], 1)
    print(f"import torch {base:.2f} s; interpreter with the package {bare / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names:
            path = Path(folder) / "model.safetensors"
            size = weights(name, path)
            nfn = [sys.executable, "-m", "nfn_cli.cli.main"]
            for label, command in (
                ("symmetry-report", [*nfn, "symmetry-report", str(path)]),
                ("symmetry-report --norms", [*nfn, "symmetry-report", str(path), "--norms"]),
                ("digest", [*nfn, "digest", str(path)]),
                ("digest --modulo-symmetry", [*nfn, "digest", str(path), "--modulo-symmetry"]),
                (
                    "canonicalize",
                    [*nfn, "canonicalize", str(path), "--force", "-o", str(Path(folder) / "out.safetensors")],
                ),
            ):
                seconds, memory = measured(command, arguments.runs)
                print(
                    f"{name} {label}: {seconds:.2f} s ({seconds / base:.1f} × import torch), "
                    f"peak {memory / 1e6:.0f} MB ({memory / size:.2f} × the file of {size / 1e6:.0f} MB)"
                )
                figure(f"{name.split(':')[1]}-{label.removeprefix('symmetry-')}", seconds)


if __name__ == "__main__":
    main()
