"""zoo/runs.py: which rows are checkpoints of one training run, and which of them is the last. Knows columns only."""

from __future__ import annotations

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.printable import printable
from nfn_cli.zoo.columns import Columns, FloatArray
from nfn_cli.zoo.csv_blocks import Array

_RUN_COLUMNS = ("run", "modeldir")
_SETTINGS = "config."
STEP, LAST_STEP = "step", "laststep"


def run_names(columns: Columns, where: str) -> Array:
    """(n,) names of the runs: `run`, `modeldir`, or, failing both, all hyper-parameters together.

    Raises:
        Refused: no column tells.
    """
    for name in _RUN_COLUMNS:
        if name in columns:
            return columns[name]
    settings = sorted(name for name in columns if name.startswith(_SETTINGS))
    if not settings:
        raise Refused("no column names the run", where=printable(where), fix="add a column 'run'", code="no-runs")
    columns.read(text=settings)
    return np.array(["|".join(cells) for cells in zip(*(columns[s] for s in settings), strict=True)])


def last_step_of_run(columns: Columns, where: str) -> FloatArray:
    """(n,) the step at which the run of each row ends: `laststep`, or the largest `step` among its rows."""
    if LAST_STEP in columns:
        return columns.numbers(LAST_STEP)
    _, run = np.unique(run_names(columns, where), return_inverse=True)
    last = np.full(run.max(initial=-1) + 1, -np.inf)
    np.fmax.at(last, run, columns.numbers(STEP))
    return np.asarray(last[run], dtype=np.float64)


def largest_step(columns: Columns, where: str) -> FloatArray:
    """(n,) the largest step of the whole table: a run that stopped before it has no last checkpoint."""
    steps = columns.numbers(STEP)
    return np.full(len(steps), np.nanmax(steps, initial=-np.inf))
