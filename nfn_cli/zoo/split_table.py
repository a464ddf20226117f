"""zoo/split_table.py: the split of a zoo by run, counted and written as a table. Knows zoos and the split; no model."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.split import BoolArray, split_of_run

_LINES = 1 << 14


def split_summary(zoo: Zoo, test_fraction: float, seed: int) -> dict[str, Any]:
    """Rows and runs on each side of a split by run, and what it was made with.

    Raises:
        Refused: no column names the run.
    """
    test, of = _test_runs(zoo, test_fraction, seed)
    sides = {"train": ~test, "test": test}
    counts = {side: {"rows": int(here[of].sum()), "runs": int(here.sum())} for side, here in sides.items()}
    return {"test_fraction": test_fraction, "seed": seed, **counts}


def write_split(zoo: Zoo, test_fraction: float, seed: int, out: Path, *, force: bool = False) -> None:
    """A CSV with a line for each network: row (as in `DIR#row`), run, split ("train" or "test").

    Raises:
        WrongUsage, SurroundingsFailed: as `atomic_output`.
    """
    test, of = _test_runs(zoo, test_fraction, seed)
    runs = zoo.runs
    with atomic_output(out, force) as handle:
        handle.write(b"row,run,split\n")
        for start in range(0, len(zoo), _LINES):
            some = slice(start, start + _LINES)
            sides = np.where(test[of[some]], "test", "train").tolist()
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(
                zip(zoo.sources[some].tolist(), runs[some].tolist(), sides, strict=True)
            )
            handle.write(text.getvalue().encode())


def _test_runs(zoo: Zoo, test_fraction: float, seed: int) -> tuple[BoolArray, Any]:
    """(runs,) whether each run is on the test side, and (n,) the number of the run of each row."""
    names, of = np.unique(zoo.runs, return_inverse=True)
    return split_of_run(names.tolist(), test_fraction, seed), of
