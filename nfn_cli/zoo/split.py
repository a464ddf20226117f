"""zoo/split.py: which side of a split a run belongs to. Knows names of runs only.

The side is a hash of the run's name, so all checkpoints of a run fall together, and a run keeps its side when the zoo
grows, is filtered or is read in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


def _fraction(text: str) -> float:
    """Text -> a number in [0, 1), the same on every machine (Python's own hash of strings is not)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


def split_of_run(runs: Iterable[str], test_fraction: float, seed: int = 0) -> BoolArray:
    """Names of runs, one a row -> True where the row belongs to the test side."""
    return np.array([_fraction(f"test:{seed}:{run}") < test_fraction for run in runs], dtype=bool)


def fold_of_run(runs: Iterable[str], folds: int, seed: int = 0) -> IntArray:
    """Names of runs, one a row -> fold number 0..folds−1. Independent of `split_of_run`."""
    return np.array([int(_fraction(f"fold:{seed}:{run}") * folds) for run in runs], dtype=np.int64)
