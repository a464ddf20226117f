"""A zoo of a few rows on disk, in the layout of the Small CNN Zoo; its score depends on its weights."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np

LAYERS = {"conv2d": (3, 3, 1, 4), "conv2d_1": (3, 3, 4, 3), "dense": (3, 2)}


def write_zoo(
    folder: Path, runs: int = 40, *, activation: str = "relu", run_column: str = "run", seed: int = 0
) -> np.ndarray:
    """Two checkpoints a run (steps 1 and 2); returns the weights (2 * runs, columns)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    spans, start = [], 0
    for name, kernel in LAYERS.items():
        for role, shape in (("bias", kernel[-1:]), ("kernel", kernel)):
            spans.append((f"sequential/{name}/{role}:0", start, start + int(np.prod(shape)), shape))
            start = spans[-1][2]
    level = rng.uniform(0.3, 3.0, 2 * runs)
    weights = (rng.standard_normal((2 * runs, start)) * level[:, None]).astype(np.float32)
    np.save(folder / "weights.npy", weights)
    with open(folder / "layout.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "varname", "start_idx", "end_idx", "size", "shape"])
        writer.writerows([i, n, a, b, b - a, str(shape)] for i, (n, a, b, shape) in enumerate(spans))
    with gzip.open(folder / "metrics.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([run_column, "step", "test_accuracy", "config.activation", "config.dataset"])
        for row in range(2 * runs):
            score = 0.1 + 0.2 * np.tanh(level[row])
            writer.writerow([f"r{row // 2}", row % 2 + 1, f"{score:.4f}", activation, "toy"])
    return weights
