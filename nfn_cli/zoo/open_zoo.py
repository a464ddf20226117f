"""zoo/open_zoo.py: from what the user named to a Zoo, whatever its form. One table of forms; knows no format itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nfn_cli.checkpoint import zoo_shard
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.graph.stored_graph import functions_of
from nfn_cli.printable import printable
from nfn_cli.zoo.columns import Array
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.store import open_store


def open_zoo(path: str | Path, *, activation: str | None = None, final_only: bool = True) -> Zoo:
    """Open a zoo.

    Args:
        path: a folder in our form (`zoo.json`), in the layout of the Small CNN Zoo (`weights.npy`), or with checkpoints
            and a CSV that names them in a column `path`; or that CSV.
        activation: keep the networks that use this activation and no other.
        final_only: keep the last checkpoint of each run only.

    Raises:
        SurroundingsFailed: a file is missing or cannot be read.
        Refused: not a zoo, or its files do not fit together.
        WrongUsage: no row has this activation.
    """
    folder = Path(path)
    try:
        zoo = _all_rows(folder)
        if final_only:
            zoo = zoo.where(final_rows(zoo))
        return zoo if activation is None else zoo.where(_rows_with(zoo, activation))
    except NfnError as error:
        where = printable(folder)
        raise (error if error.where.startswith(where) else error.located(where)) from None


def final_rows(zoo: Zoo) -> Array:
    """(n,) bool: the last checkpoint of each run, by `laststep` where there is one, else by the run's largest `step`."""
    if "step" not in zoo.columns:
        return np.ones(len(zoo), dtype=bool)
    if "laststep" in zoo.columns:
        zoo.columns.read(numbers=("step", "laststep"))
        return np.asarray(zoo.numbers("step") == zoo.numbers("laststep"))
    _, run = np.unique(zoo.runs, return_inverse=True)
    step = zoo.numbers("step")
    last = np.full(run.max(initial=-1) + 1, -np.inf)
    np.maximum.at(last, run, np.nan_to_num(step, nan=-np.inf))
    return np.asarray(step == last[run])


def _all_rows(folder: Path) -> Zoo:
    if not folder.exists():
        raise SurroundingsFailed("no such folder", code="no-such-file")
    if zoo_shard.is_zoo(folder):
        return open_store(folder)
    raise Refused("the folder is no zoo", fix="it needs zoo.json", code="not-a-zoo")


def _rows_with(zoo: Zoo, activation: str) -> Array:
    keep = np.zeros(len(zoo), dtype=bool)
    for family in zoo.families:
        keep[family.rows] = set(functions_of(family.graph)) == {activation}
    if not keep.any():
        known = sorted({"+".join(dict.fromkeys(functions_of(family.graph))) for family in zoo.families})
        raise WrongUsage(f"no row with activation {printable(activation)!r}", fix=f"it has: {', '.join(known)}")
    return keep
