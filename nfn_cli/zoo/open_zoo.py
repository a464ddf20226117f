"""zoo/open_zoo.py: from what the user named to a Zoo, whatever its form. One table of forms; knows no format itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nfn_cli.checkpoint import zoo_row, zoo_shard
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.graph import NameOptions
from nfn_cli.graph.stored_graph import functions_of
from nfn_cli.printable import printable
from nfn_cli.zoo.checkpoint_folder import Progress, open_checkpoint_folder, table_of
from nfn_cli.zoo.columns import Columns, FloatArray
from nfn_cli.zoo.csv_blocks import Array
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.published_inrs import is_published_folder, open_published_folder
from nfn_cli.zoo.runs import STEP, largest_step, last_step_of_run
from nfn_cli.zoo.small_cnn_families import open_small_cnn_zoo
from nfn_cli.zoo.store import open_store
from nfn_cli.zoo.untabled_folder import is_untabled_folder, open_untabled_folder


@dataclass(frozen=True)
class Form:
    """One form a zoo may have on disk.

    Attributes:
        name: for people.
        found: whether a path has this form.
        open: all its rows; the last argument is what the user states about checkpoints that do not say it.
        last_step: the step at which the run of each row ends.
        may_be_told: whether there may be such checkpoints.
    """

    name: str
    found: Callable[[Path], bool]
    open: Callable[[Path, Progress, NameOptions], Zoo]
    last_step: Callable[[Columns, str], FloatArray]
    may_be_told: bool = False


_TOLD_NOTHING = NameOptions()
FORMS = (
    Form("shards", zoo_shard.is_zoo, lambda path, *_: open_store(path), last_step_of_run),
    Form("small-cnn-zoo", zoo_row.is_zoo, lambda path, *_: open_small_cnn_zoo(path), largest_step),
    Form("checkpoints", lambda path: table_of(path) is not None, open_checkpoint_folder, last_step_of_run, True),
    Form(
        "published-inrs", is_published_folder, lambda path, say, _: open_published_folder(path, say), last_step_of_run
    ),
)
_UNTABLED = Form("folder", is_untabled_folder, open_untabled_folder, last_step_of_run, True)


def open_zoo(
    path: str | Path,
    *,
    activation: str | None = None,
    final_only: bool = True,
    progress: Progress = iter,
    stated: NameOptions = _TOLD_NOTHING,
) -> Zoo:
    """Open a zoo.

    Args:
        path: a folder in our form (`zoo.json`), in the layout of the Small CNN Zoo (`weights.npy`), or with checkpoints
            and a CSV that names them in a column `path`; or that CSV; or a published folder of sine networks (`inr_folders`).
        activation: keep the networks that use this activation and no other.
        final_only: keep the last checkpoint of each run only.
        progress: wraps the numbers of the files that have to be opened one by one.
        stated: what is true of checkpoints that do not say it themselves; then a folder of checkpoints needs no CSV.

    Raises:
        SurroundingsFailed: a file is missing or cannot be read.
        Refused: not a zoo, or its files do not fit together.
        WrongUsage: no row has this activation; something is stated about networks that say it themselves.
    """
    folder = Path(path)
    where = printable(folder)
    try:
        form = form_of(folder, stated)
        zoo = form.open(folder, progress, stated)
        if final_only:
            zoo = zoo.where(final_rows(zoo, form))
        return zoo if activation is None else zoo.where(_rows_with(zoo, activation))
    except NfnError as error:
        raise (error if error.where.startswith(where) else error.located(where)) from None


def form_of(path: Path, stated: NameOptions = _TOLD_NOTHING) -> Form:
    """The form of a zoo on disk.

    Raises:
        SurroundingsFailed: nothing is there.
        Refused: not a zoo.
        WrongUsage: something is stated about networks that say it themselves.
    """
    if not path.exists():
        raise SurroundingsFailed("no such file or folder", code="no-such-file")
    forms = FORMS if stated == _TOLD_NOTHING else (*FORMS, _UNTABLED)
    form = next((form for form in forms if form.found(path)), None)
    if form is not None and stated != _TOLD_NOTHING and not form.may_be_told:
        raise WrongUsage("its networks say themselves how they are run", fix="leave --omega out", code="already-stated")
    if form is None:
        raise Refused(
            "no zoo",
            fix="it needs zoo.json; weights.npy, layout.csv and metrics.csv.gz; or checkpoints and a CSV with a column 'path'",
            code="not-a-zoo",
        )
    return form


def final_rows(zoo: Zoo, form: Form) -> Array:
    """(n,) bool: the last checkpoint of each run; all rows where no column `step` tells several apart."""
    if STEP not in zoo.columns:
        return np.ones(len(zoo), dtype=bool)
    return np.asarray(zoo.numbers(STEP) == form.last_step(zoo.columns, zoo.folder))


def _rows_with(zoo: Zoo, activation: str) -> Array:
    keep = np.zeros(len(zoo), dtype=bool)
    for family in zoo.families:
        keep[family.rows] = set(functions_of(family.graph)) == {activation}
    if not keep.any():
        known = sorted({"+".join(dict.fromkeys(functions_of(family.graph))) for family in zoo.families})
        raise WrongUsage(f"no row with activation {printable(activation)!r}", fix=f"it has: {', '.join(known)}")
    return keep
