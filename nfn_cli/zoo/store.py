"""zoo/store.py: our own form of a zoo: shards of stacked tensors, each with its table. Written whole or not at all.

The files are told in checkpoint/zoo_shard.py. Each shard has one graph, kept in its metadata. The table of a shard is
written before its tensors, and a shard is there only when its tensors are: whoever is stopped in between writes again.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output, check_output, surroundings_failed
from nfn_cli.checkpoint.safetensors_file import entry_of, write_tensors
from nfn_cli.checkpoint.zoo_shard import (
    DESCRIPTION,
    SCHEMA,
    SHARDS,
    Shard,
    is_zoo,
    open_shard,
    read_description,
    shard_path,
    shard_paths,
)
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.graph_file import GRAPH_KEY
from nfn_cli.graph.model import Graph
from nfn_cli.graph.stored_graph import graph_from_text, graph_to_text
from nfn_cli.printable import printable
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import Array, table_file
from nfn_cli.zoo.family import Family, StackedTensors
from nfn_cli.zoo.model import Zoo

_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of pairs, line and paragraph ends
_LINES = 1 << 14  # lines of a table formatted at a time


def create_zoo(folder: str | Path, description: str, **more: Any) -> Path:
    """Make the folder of a zoo; one that is already there and says the same is taken as it is.

    Args:
        folder: made with its parents where missing.
        description: what the networks are, for people.
        more: further facts, plain JSON values.

    Raises:
        WrongUsage: another zoo, or other files, are there.
        SurroundingsFailed: disk full, no permission.
    """
    folder = Path(folder)
    content = {"schema": SCHEMA, "description": description, **more}
    if is_zoo(folder):
        if read_description(folder) != json.loads(json.dumps(content)):
            raise WrongUsage(
                "another zoo is there", where=printable(folder), fix="name another folder", code="output-exists"
            )
        return folder
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise surroundings_failed(error, folder) from None
    with atomic_output(folder / DESCRIPTION) as handle:
        handle.write((json.dumps(content, indent=2, ensure_ascii=True) + "\n").encode())
    return folder


def shard_names(folder: str | Path) -> list[str]:
    """Names of the shards that are whole, in the order of their rows."""
    return [path.stem for path in shard_paths(Path(folder))]


def write_shard(
    folder: str | Path,
    name: str,
    graph: Graph,
    tensors: Mapping[str, Array],
    columns: Mapping[str, Sequence[Any] | Array],
    *,
    force: bool = False,
) -> Path:
    """Add one shard to a zoo that `create_zoo` made.

    Args:
        name: plain file name. Rows are numbered in the order of names, so number shards with leading zeros.
        graph: of every network in the shard.
        tensors: name -> (n, *shape) for every tensor of the graph; further ones are kept.
        columns: name -> n cells: text, numbers (NaN and None become empty) or booleans.
        force: whether a shard of this name is replaced.

    Raises:
        WrongUsage: the shard is there and `force` is off.
        Refused: tensors, graph and columns do not fit together; a cell or name with control characters.
        SurroundingsFailed: disk full, no permission, no such zoo; nothing of the shard is then there.
    """
    path = shard_path(Path(folder), name)
    rows = _checked_rows(name, graph, tensors, columns)
    check_output(path, force)
    try:
        path.unlink(missing_ok=True)  # never new columns beside old tensors
    except OSError as error:
        raise surroundings_failed(error, path) from None
    with atomic_output(path.with_suffix(".csv"), force=True) as handle:
        for lines in _table_lines(columns, rows):
            handle.write(lines)
    layout = {tensor: (tensor, entry_of(array)) for tensor, array in tensors.items()}
    with atomic_output(path, force) as handle:
        write_tensors(handle, layout, {GRAPH_KEY: graph_to_text(graph)}, tensors)
    return path


def open_store(folder: str | Path) -> Zoo:
    """All rows of a zoo in shards. Reads headers and counts lines; tensors are memory-mapped, columns read when asked for.

    Raises:
        Refused: a shard or table is damaged or they do not fit together.
    """
    folder = Path(folder)
    description = read_description(folder)
    shards = [open_shard(path) for path in shard_paths(folder)]
    if not shards:
        raise Refused("the zoo has no shard yet", code="empty-zoo")
    tables = tuple(table_file(shard.path.with_suffix(".csv"), shard.rows) for shard in shards)
    for table in tables:
        _check_line_count(table.path, table.lines)
    starts = np.cumsum([0, *(shard.rows for shard in shards)])
    members: dict[tuple[str, str], list[int]] = {}
    for number, shard in enumerate(shards):
        members.setdefault(_kind(shard), []).append(number)
    families = tuple(_family([shards[n] for n in numbers], starts[numbers]) for numbers in members.values())
    sources = np.arange(starts[-1], dtype=np.int64)
    return Zoo(str(folder), description.get("description", ""), families, Columns(tables), sources)


def _kind(shard: Shard) -> tuple[str, str]:
    """What shards of one family agree in: graph and types."""
    types = sorted((name, array.dtype.name) for name, array in shard.tensors.items())
    return shard.metadata.get(GRAPH_KEY, ""), repr(types)


def _family(shards: Sequence[Shard], starts: Array) -> Family:
    shapes = [{name: tuple(array.shape[1:]) for name, array in shard.tensors.items()} for shard in shards]
    try:
        graph = graph_from_text(shards[0].metadata.get(GRAPH_KEY, ""), shapes[0])
    except Refused as error:
        raise error.located(f"{SHARDS}/{printable(shards[0].path.name)}") from None
    for shard, found in zip(shards, shapes, strict=True):
        if found != shapes[0]:
            raise Refused("its tensors are not those of its graph", where=printable(shard.path), code="bad-zoo")
    rows = np.concatenate([np.arange(s, s + shard.rows) for s, shard in zip(starts, shards, strict=True)])
    sources = tuple(StackedTensors(shard.tensors) for shard in shards)
    return Family(shards[0].path.stem, graph, rows.astype(np.int64), np.arange(len(rows), dtype=np.int64), sources)


def _checked_rows(
    name: str, graph: Graph, tensors: Mapping[str, Array], columns: Mapping[str, Sequence[Any] | Array]
) -> int:
    counts = {array.shape[0] if array.ndim else -1 for array in tensors.values()}
    counts |= {len(cells) for cells in columns.values()}
    if len(counts) != 1 or not tensors or not columns or counts == {-1}:
        raise Refused(
            f"tensors and columns have {sorted(counts)} rows, not one number", where=printable(name), code="bad-shard"
        )
    for column in columns:
        if not column or not column.isprintable():
            raise Refused(f"a column cannot be called {printable(column)!r}", where=printable(name), code="bad-shard")
    graph_from_text(graph_to_text(graph), {tensor: tuple(array.shape[1:]) for tensor, array in tensors.items()})
    return counts.pop()


def _table_lines(columns: Mapping[str, Sequence[Any] | Array], rows: int) -> Iterator[bytes]:
    lines = zip(*(map(_cell, cells) for cells in columns.values()), strict=True)
    head: list[Sequence[str]] = [tuple(columns)]
    for _ in range(0, max(rows, 1), _LINES):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*head, *islice(lines, _LINES)])
        head = []
        yield text.getvalue().encode()


def _cell(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
    if not text.isprintable() and any(unicodedata.category(character) in _CONTROL for character in text):
        raise Refused(f"a cell cannot hold {printable(text, 60)!r}", fix="control characters are not kept")
    return text


def _check_line_count(path: Path, rows: int) -> None:
    """Count line ends alone: cells of ours hold none, and a million lines are counted in a fraction of a second."""
    count, last = 0, b"\n"
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    lines = count + (last != b"\n") - 1
    if lines != rows:
        raise Refused(
            f"the table has {lines} lines for {rows} networks",
            where=f"{SHARDS}/{printable(path.name)}",
            fix="one line a network, the header first",
            code="bad-table",
        )
