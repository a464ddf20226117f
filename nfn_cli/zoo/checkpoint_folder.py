"""zoo/checkpoint_folder.py: a folder of checkpoints and a CSV of scores as a zoo. Knows the front ends; writes nothing.

The CSV has a column `path` (relative to its own folder), and any further columns. A column `config.activation` or
`activation` states the activation of checkpoints that do not say it themselves, `config.omega` or `omega` the frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from nfn_cli.checkpoint import load
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError, Refused
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.graph.model import Graph
from nfn_cli.graph.stored_graph import graph_from_text, graph_to_text
from nfn_cli.printable import printable
from nfn_cli.zoo.columns import Columns, IntArray
from nfn_cli.zoo.csv_blocks import Array, TableFile, table_file
from nfn_cli.zoo.family import Family
from nfn_cli.zoo.model import LeftOut, Zoo

Progress = Callable[[Sequence[int]], Iterable[int]]
PATH = "path"
_ACTIVATIONS = ("config.activation", "activation")
_OMEGAS = ("config.omega", "omega")
_DESCRIPTION = "checkpoints with a table of scores"


@dataclass(frozen=True)
class CheckpointFiles:
    """Tensors of networks of one graph that lie in a file each; a file is read when its row is asked for."""

    folder: Path
    paths: tuple[str, ...]
    tensor_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def names(self) -> tuple[str, ...]:
        return self.tensor_names

    def read(self, names: Sequence[str], places: IntArray) -> dict[str, Array]:
        """Name -> (len(places), *shape).

        Raises:
            NfnError: a file is not what it was when the zoo was opened.
        """
        read = [load(self.folder / self.paths[place]).tensors for place in places]
        missing = [name for name in names if any(name not in tensors for tensors in read)]
        if missing:
            raise Refused(f"{printable(missing[0])} is gone", where=printable(self.folder), code="changed-meanwhile")
        return {name: np.stack([tensors[name] for tensors in read]) for name in names}


def table_of(path: Path) -> Path | None:
    """The CSV with a column `path` that makes a folder of checkpoints a zoo: `path` itself or the only one in it."""
    if path.is_file():
        return path if path.suffix in (".csv", ".gz") and _has_paths(path) else None
    if not path.is_dir():
        return None
    tables = [entry for entry in sorted(path.iterdir()) if entry.name.endswith((".csv", ".csv.gz")) and entry.is_file()]
    named = [entry for entry in tables if _has_paths(entry)]
    if len(named) > 1:
        found = ", ".join(printable(entry.name) for entry in named)
        raise Refused(f"several tables have a column 'path': {found}", fix="name the CSV itself", code="needs-file")
    return named[0] if named else None


def open_checkpoint_folder(path: Path, progress: Progress = iter, stated: NameOptions = NameOptions()) -> Zoo:
    """All checkpoints of a table that hold one network each; the others are listed as left out, with the reason.

    Every file is opened once to find its graph; no tensor is kept. `progress` is shown the rows as they go by.
    `stated` counts where neither a checkpoint nor the table says it.

    Raises:
        Refused: the table is damaged, or not one checkpoint can be taken.
    """
    found = table_of(path)
    assert found is not None
    table = table_file(found)
    columns = Columns((table,))
    paths = [str(cell) for cell in columns[PATH]]
    activations, omegas = (_stated(columns, names) for names in (_ACTIVATIONS, _OMEGAS))

    def opened(row: int) -> tuple[Checkpoint, NameOptions]:
        activation, omega = (str(cells[row]) or None if cells is not None else None for cells in (activations, omegas))
        checkpoint = load(_inside(found.parent, paths[row]))
        silent = where_silent(checkpoint, stated)
        return checkpoint, NameOptions(activation=activation or silent.activation, omega=omega or silent.omega)

    families, taken, left_out = families_of(found.parent, paths, opened, progress)
    return Zoo(str(path), _DESCRIPTION, families, columns.where(taken), taken, left_out)


def where_silent(checkpoint: Checkpoint, stated: NameOptions) -> NameOptions:
    """Of what is stated about all checkpoints of a folder, what this one does not say itself."""
    said = checkpoint.hints
    return NameOptions(
        activation=None if said.activation else stated.activation, omega=None if said.omega else stated.omega
    )


def families_of(
    folder: Path, paths: Sequence[str], opened: Callable[[int], tuple[Checkpoint, NameOptions]], progress: Progress
) -> tuple[tuple[Family, ...], IntArray, tuple[LeftOut, ...]]:
    """Checkpoints by graph and types, the numbers of those that are rows, and the others with the reason.

    Args:
        opened: number of a path -> its checkpoint and what is stated about it.

    Raises:
        Refused: not one checkpoint can be taken.
    """
    members: dict[tuple[str, str], list[int]] = {}
    graphs: dict[tuple[str, str], tuple[Graph, tuple[str, ...]]] = {}
    left_out: list[LeftOut] = []
    for row in progress(range(len(paths))):
        try:
            kind, graph = _kind(*opened(row))
        except NfnError as error:
            left_out.append(LeftOut(printable(paths[row]), error.code, _reason(error, folder / paths[row])))
            continue
        members.setdefault(kind, []).append(row)
        graphs.setdefault(kind, (graph, tuple(graph.parameter_shapes)))
    if not members:
        reason = f": {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise Refused(f"not one of {len(paths)} checkpoints can be taken{reason}", code="empty-zoo")
    taken = np.sort(np.concatenate([np.array(rows, dtype=np.int64) for rows in members.values()]))
    number = np.full(len(paths), -1, dtype=np.int64)
    number[taken] = np.arange(len(taken))
    families = tuple(
        Family(
            f"family-{i:03d}",
            graphs[kind][0],
            number[rows],
            np.arange(len(rows), dtype=np.int64),
            (CheckpointFiles(folder, tuple(paths[row] for row in rows), graphs[kind][1]),),
        )
        for i, (kind, rows) in enumerate(members.items())
    )
    return families, taken, tuple(left_out)


def _kind(checkpoint: Checkpoint, options: NameOptions) -> tuple[tuple[str, str], Graph]:
    """What checkpoints of one family agree in: graph and types."""
    networks = find_networks(checkpoint, options)
    if len(networks) != 1:
        raise Refused(f"holds {len(networks)} networks, a row of a zoo is one", code="several-networks")
    text = graph_to_text(networks[0].graph)
    graph = graph_from_text(text, {name: tuple(array.shape) for name, array in checkpoint.tensors.items()})
    return (text, repr([checkpoint.tensors[name].dtype.name for name in graph.parameter_shapes])), graph


def _stated(columns: Columns, names: Sequence[str]) -> Array | None:
    name = next((name for name in names if name in columns), None)
    return None if name is None else columns[name]


def _inside(folder: Path, cell: str) -> Path:
    """The file a cell names; it may not lead out of the folder of the table.

    Raises:
        Refused: an absolute path, one with "..", or with control characters.
    """
    parts = [*PurePosixPath(cell).parts, *PureWindowsPath(cell).parts]
    absolute = PurePosixPath(cell).is_absolute() or PureWindowsPath(cell).drive or PureWindowsPath(cell).root
    if not cell or absolute or ".." in parts or "://" in cell:
        raise Refused("does not name a file below the folder of its table", fix="use relative paths", code="bad-path")
    if not cell.isprintable():
        raise Refused("the path holds control characters", code="bad-path")
    return folder / cell


def _reason(error: NfnError, path: Path) -> str:
    """The reason alone: the path stands beside it, and a table has no options."""
    where = error.where.removeprefix(printable(path)).lstrip(": ")
    fix = "state it in a column config.activation" if error.code == "activation-unknown" else error.fix
    return "; ".join(part for part in (f"{where}: {error.what}" if where else error.what, fix) if part)


def _has_paths(path: Path) -> bool:
    try:
        table: TableFile = table_file(path, -1)
    except NfnError:
        return False
    return PATH in table.header
