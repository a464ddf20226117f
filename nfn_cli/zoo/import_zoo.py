"""zoo/import_zoo.py: a zoo of any form written again as shards. Knows zoos; the forms are for open_zoo to know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nfn_cli.checkpoint import zoo_shard
from nfn_cli.checkpoint.atomic_write import atomic_folder
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph import NameOptions
from nfn_cli.graph.stored_graph import functions_of
from nfn_cli.printable import printable
from nfn_cli.zoo.checkpoint_folder import Progress
from nfn_cli.zoo.columns import FloatArray
from nfn_cli.zoo.csv_blocks import Array
from nfn_cli.zoo.family import Family
from nfn_cli.zoo.model import LeftOut, Zoo
from nfn_cli.zoo.open_zoo import Form, form_of, open_zoo
from nfn_cli.zoo.runs import LAST_STEP, STEP
from nfn_cli.zoo.store import create_zoo, write_shard

_SHARD_BYTES = 64 << 20  # of tensors, the most that is held at once
_SOURCE_ROW = "source_row"


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        path: the folder.
        rows: networks in it.
        families: networks of each family, by name.
        left_out: what did not become a row, and why.
        notes: what was taken for granted.
    """

    path: Path
    rows: int
    families: dict[str, int]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


def import_zoo(
    source: str | Path,
    out: str | Path,
    *,
    activation: str | None = None,
    final_only: bool = True,
    scores: Sequence[str] = (),
    force: bool = False,
    stated: NameOptions = NameOptions(),
    cells: Mapping[str, str] = MappingProxyType({}),
    opening: Progress = iter,
    writing: Progress = iter,
) -> Imported:
    """Write the zoo `source`, of any form, as shards in the new folder `out`: whole or not at all.

    Args:
        activation, final_only: which rows, as for `open_zoo`.
        scores: columns that must be numbers; rows where one is empty or not finite are left out.
        stated: what is true of checkpoints that do not say it themselves, as for `open_zoo`.
        cells: column -> what its empty cells, or all of them where there is no such column, become.
        force: whether a zoo in shards that is already at `out` is replaced; anything else there never is.
        opening, writing: shown the numbers of files opened and shards written as they go by.

    Raises:
        WrongUsage: the output exists or is the source.
        Refused: as `open_zoo`; a score that is no column or no number; no row is left.
        SurroundingsFailed: disk full, no permission; nothing is then at `out`.
    """
    source, out = Path(source), Path(out)
    check_zoo_output(source, out, force)
    zoo, left_out = _with_scores(
        open_zoo(source, activation=activation, final_only=final_only, progress=opening, stated=stated), scores
    )
    if not len(zoo):
        raise Refused("no row is left to import", where=printable(source), code="empty-zoo")
    form = form_of(source, stated)
    last = _last_steps(zoo, form)
    pieces = [
        (f"{number:03d}-{_slug(family)}-{part:05d}", family, places)
        for number, family in enumerate(zoo.families)
        for part, places in enumerate(_parts(family))
    ]
    with atomic_folder(out, force) as folder:
        create_zoo(folder, zoo.description, imported_from=form.name)
        for i in writing(range(len(pieces))):
            name, family, places = pieces[i]
            columns = _filled(_columns(zoo, family.rows[places], last), cells)
            write_shard(folder, name, family.graph, family.tensors(rows=places), columns)
    families: dict[str, int] = {}
    for name, family, _ in pieces:
        families.setdefault(name if name.endswith("-00000") else "", len(family))
    named = {name: n for name, n in families.items() if name}
    return Imported(out, len(zoo), named, (*zoo.left_out, *left_out), zoo.notes)


def check_zoo_output(source: Path, out: Path, force: bool) -> None:
    """The errors of `import_zoo` that are known before any work is done.

    Raises:
        WrongUsage: the output exists or is the source.
    """
    where = printable(out)
    if out.exists() and source.exists() and os.path.samefile(out, source):
        raise WrongUsage("the output is the input", where=where, fix="name another folder", code="output-is-input")
    if not os.path.lexists(out):
        return
    if not force:
        raise WrongUsage("the output exists", where=where, fix="use --force to replace it", code="output-exists")
    if out.is_symlink() or not zoo_shard.is_zoo(out):
        raise WrongUsage(
            "the output is no zoo in shards, and only such a folder is replaced", where=where, code="output-not-a-zoo"
        )


def _with_scores(zoo: Zoo, scores: Sequence[str]) -> tuple[Zoo, list[LeftOut]]:
    """The rows that have all scores, and one line for each score that rows lack."""
    keep = np.ones(len(zoo), dtype=bool)
    left_out = []
    for score in dict.fromkeys(scores):
        finite = np.isfinite(zoo.numbers(score))
        missing = int((keep & ~finite).sum())
        if missing:
            left_out.append(LeftOut(f"{missing} rows", "no-score", f"no finite number in column {printable(score)!r}"))
        keep &= finite
    return (zoo if keep.all() else zoo.where(keep)), left_out


def _last_steps(zoo: Zoo, form: Form) -> FloatArray | None:
    """The step at which each row's run ends, where the zoo does not say it but its form does."""
    if STEP not in zoo.columns or LAST_STEP in zoo.columns:
        return None
    return form.last_step(zoo.columns, zoo.folder)


def _columns(zoo: Zoo, rows: Array, last: FloatArray | None) -> dict[str, Array]:
    zoo.columns.read(text=list(zoo.columns))
    some = zoo.columns.where(rows)
    columns = {name: some[name] for name in some}
    if last is not None:
        columns[LAST_STEP] = np.array([f"{step:.17g}" for step in last[rows]])
    columns.setdefault(_SOURCE_ROW, zoo.sources[rows])
    return columns


def _filled(columns: dict[str, Array], cells: Mapping[str, str]) -> dict[str, Array]:
    rows = len(columns[_SOURCE_ROW])
    for name, cell in cells.items():
        found = columns.get(name, np.full(rows, ""))
        columns[name] = np.array([str(each) or cell for each in found], dtype=object)
    return columns


def _parts(family: Family) -> Iterator[Array]:
    """Positions within the family, in pieces that fit into a shard."""
    one = sum(array.nbytes for array in family.tensors(rows=[0]).values())
    step = max(1, _SHARD_BYTES // max(one, 1))
    for start in range(0, len(family), step):
        yield np.arange(start, min(start + step, len(family)))


def _slug(family: Family) -> str:
    """What its activations are called, fit for a file name."""
    words = "-".join(dict.fromkeys(functions_of(family.graph))) or "linear"
    return re.sub(r"[^a-z0-9_-]", "", words)[:60] or "family"
