"""checkpoint/zoo_shard.py: a zoo in shards: its files, and one row of it. Knows safetensors; no graph, no CSV, no torch.

    zoo.json                   {"schema": "nfn.zoo/1", "description": …}
    shards/NAME.safetensors    every tensor of one architecture stacked over rows: (rows, *shape)
    shards/NAME.csv            one line a row

Rows are numbered through the shards in the order of their names. Metadata of a shard is that of each of its rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin
from nfn_cli.checkpoint.safetensors_file import Header, read_header, read_tensors
from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.printable import printable

SCHEMA = "nfn.zoo/1"
DESCRIPTION = "zoo.json"
SHARDS = "shards"
_LONGEST = 1 << 20  # bytes of zoo.json
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True)
class Shard:
    """One shard, opened: its tensors are views of a memory map, (rows, *shape) each."""

    path: Path
    rows: int
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str]


def is_zoo(folder: Path) -> bool:
    """Whether a folder is a zoo in shards."""
    return (folder / DESCRIPTION).is_file()


def read_description(folder: Path) -> dict[str, Any]:
    """The content of zoo.json.

    Raises:
        Refused: not JSON, or not of the schema that is known here.
    """
    with (folder / DESCRIPTION).open("rb") as handle:
        text = handle.read(_LONGEST + 1)
    try:
        values = json.loads(text.decode("utf-8")) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not isinstance(values.get("description", ""), str):
        raise Refused("not the description of a zoo", where=DESCRIPTION, code="bad-zoo")
    if values.get("schema") != SCHEMA:
        raise Refused(
            f"the schema is {printable(values.get('schema'), 60)!r}, not {SCHEMA!r}", where=DESCRIPTION, code="bad-zoo"
        )
    return values


def shard_path(folder: Path, name: str) -> Path:
    """Where the tensors of the shard `name` lie; the CSV lies beside them.

    Raises:
        Refused: a name that is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise Refused(
            f"a shard cannot be called {printable(name)!r}", fix="letters, digits, '.', '_' and '-'", code="bad-name"
        )
    return folder / SHARDS / f"{name}.safetensors"


def shard_paths(folder: Path) -> list[Path]:
    """The shards that are whole, in the order in which their rows are numbered.

    Raises:
        Refused: a shard whose name is no plain file name, or `shards` is no folder.
    """
    try:
        files = [path for path in (folder / SHARDS).iterdir() if not path.name.startswith(".")]
        found = [path for path in files if path.suffix == ".safetensors"]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise Refused(f"{SHARDS} is no folder", where=printable(folder), code="bad-zoo") from None
    for path in found:
        shard_path(folder, path.stem)
    return sorted(found, key=lambda path: path.stem)


def open_shard(path: Path) -> Shard:
    """Header and memory map of a shard; no tensor is read.

    Raises:
        Refused: damaged, or tensors of different numbers of rows.
    """
    try:
        header, tensors = read_tensors(path)
        return Shard(path, _rows(header), MappingProxyType(tensors), header.metadata)
    except Refused as error:
        raise error.located(f"{SHARDS}/{printable(path.name)}") from None


def row_count(folder: Path) -> int:
    """Number of rows, from the headers of the shards alone."""
    return sum(_rows_of(path) for path in shard_paths(folder))


def read_zoo_row(folder: Path, row: int) -> Checkpoint:
    """Row `row` (from 0): views of the memory map of its shard, under the names of the shard.

    Raises:
        Refused: no such row, a damaged shard, or a zoo.json of another schema.
    """
    read_description(folder)
    first = 0
    for path in shard_paths(folder):
        rows = _rows_of(path)
        if row < first + rows:
            shard = open_shard(path)
            tensors = {name: array[row - first] for name, array in shard.tensors.items()}
            return row_checkpoint(f"{folder}#{row}", tensors, shard.metadata, (path,))
        first += rows
    raise Refused(f"there is no row {row}", fix=f"rows are 0 to {first - 1}", code="no-such-row")


def row_checkpoint(
    path: str, tensors: Mapping[str, Array], metadata: Mapping[str, str], files: tuple[Path, ...]
) -> Checkpoint:
    """One row of a zoo as a checkpoint; it is written as a safetensors file of its own."""
    frozen = MappingProxyType(dict(tensors))
    return Checkpoint(path, "zoo-row", frozen, MappingProxyType(dict(metadata)), payload=Origin(files, frozen))


def _rows_of(path: Path) -> int:
    try:
        with path.open("rb") as handle:
            return _rows(read_header(handle, path.stat().st_size))
    except Refused as error:
        raise error.located(f"{SHARDS}/{printable(path.name)}") from None
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror})", where=printable(path)) from None


def _rows(header: Header) -> int:
    counts = {entry.shape[0] if entry.shape else -1 for entry in header.entries.values()}
    if len(counts) != 1 or counts == {-1}:
        raise Refused("its tensors do not have the same number of rows", code="bad-zoo")
    return counts.pop()
