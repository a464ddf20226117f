"""canonicalize on a generated VGG-16 (about 550 MB) against loading and saving it: python benchmarks/canonicalize.py

Every figure is the time or peak memory of a process of its own, taken in one run, repeated and interleaved; medians and
ratios are printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import figure
from safetensors.numpy import save_file

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)

PLAIN = """
from safetensors.numpy import load_file, save_file
save_file(load_file(r"{path}"), r"{out}")
"""
OURS = """
import nfn_cli
nfn_cli.save(nfn_cli.canonicalize(r"{path}").checkpoint, r"{out}", force=True)
"""
MEASURE = """
import resource, time
start = time.perf_counter()
{body}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def vgg(path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors, channels = {}, 3
    for number, width in enumerate(WIDTHS):
        spread = np.float32(np.sqrt(2 / (9 * channels)))
        tensors[f"features.{number}.weight"] = generator.standard_normal((width, channels, 3, 3), np.float32) * spread
        tensors[f"features.{number}.bias"] = generator.standard_normal(width, np.float32) * np.float32(0.1)
        channels = width
    for number, (into, out) in enumerate(((channels * 49, 4096), (4096, 4096), (4096, 1000))):
        spread = np.float32(np.sqrt(2 / into))
        tensors[f"classifier.{number}.weight"] = generator.standard_normal((out, into), np.float32) * spread
        tensors[f"classifier.{number}.bias"] = generator.standard_normal(out, np.float32) * np.float32(0.1)
    save_file(tensors, path, metadata={"activation": "relu"})


def measured(body: str, path: Path, out: Path) -> tuple[float, float]:
    out.unlink(missing_ok=True)
    code = MEASURE.format(body=body.format(path=path, out=out))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "vgg.safetensors", Path(folder) / "out.safetensors"
        vgg(path)
        size = path.stat().st_size
        measured(PLAIN, path, out)
        results: dict[str, list[tuple[float, float]]] = {"load + save": [], "canonicalize": []}
        for _ in range(runs):
            for name, body in (("load + save", PLAIN), ("canonicalize", OURS)):
                results[name].append(measured(body, path, out))
                time.sleep(0.5)
    base = statistics.median(seconds for seconds, _ in results["load + save"])
    print(f"file: {size / 1e6:.0f} MB")
    for name, taken in results.items():
        seconds = statistics.median(s for s, _ in taken)
        peak = max(p for _, p in taken)
        print(
            f"{name:14s} {seconds:6.2f} s = {seconds / base:4.2f} × load + save; peak memory {peak / size:4.2f} × the file"
        )
    figure("canonicalize", statistics.median(s for s, _ in results["canonicalize"]) / base)
    figure("canonicalize-memory", max(peak for _, peak in results["canonicalize"]) / size)


if __name__ == "__main__":
    main()
