"""zoo/csv_blocks.py: a CSV file, gzipped or not, some thousand lines at a time, column by column. Knows text; no network.

Most tables of numbers have neither quotes nor letters beyond ASCII. Such blocks are cut into cells by array arithmetic,
several times as fast as line by line; from the first block that is not so plain on, Python's own CSV reader goes on.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]

NARROW = 32  # characters; a column of wider text would cost its widest cell in every row
_BLOCK = 1 << 21  # bytes
_CHUNK = 1 << 14  # lines of the slow way
_LONGEST_LINE = 1 << 24  # bytes
_COMMA, _NEWLINE = ord(","), ord("\n")
_UNREADABLE = (ValueError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class TableFile:
    """One CSV file: where it lies, its columns, and the number of lines it must have.

    Attributes:
        path: the file.
        header: names of its columns in their order; "" is an index and no column.
        lines: number of lines below the header; −1 where it is not known yet.
    """

    path: Path
    header: tuple[str, ...]
    lines: int

    def blocks(self, wanted: Sequence[str]) -> Iterator[dict[str, Array]]:
        """See `read_blocks`."""
        return read_blocks(self, wanted)


@dataclass(frozen=True)
class HeldTable(TableFile):
    """A table that is in no file: `path` is what it was made from.

    Attributes:
        cells: name -> (lines,) as `cells_of` makes them.
    """

    cells: Mapping[str, Array]

    def blocks(self, wanted: Sequence[str]) -> Iterator[dict[str, Array]]:
        """All lines at once; a column the table lacks is empty."""
        empty = np.zeros(self.lines, dtype="S1")
        yield {name: self.cells.get(name, empty) for name in wanted}


def held_table(path: Path, rows: Sequence[Mapping[str, str]]) -> HeldTable:
    """The table of rows that all have the columns of the first."""
    header = tuple(rows[0]) if rows else ()
    return HeldTable(path, header, len(rows), {name: cells_of([row[name] for row in rows]) for name in header})


def table_file(path: Path, lines: int | None = None) -> TableFile:
    """Open a table: its header, and its number of lines (counted where `lines` is not given; nothing is kept).

    Raises:
        Refused: no header, a name twice or with control characters.
        SurroundingsFailed: it cannot be read.
    """
    try:
        with _opened(path) as handle:
            header = tuple(next(csv.reader(_as_text(handle)), ()))
    except _UNREADABLE as error:
        raise _not_a_table(path, error) from None
    named = [name for name in header if name]
    if not named:
        raise Refused("the table has no header", where=printable(path), code="bad-table")
    for name in named:
        if not name.isprintable() or named.count(name) > 1:
            problem = "twice" if name.isprintable() else "with control characters"
            raise Refused(f"the header names {printable(name)!r} {problem}", where=printable(path), code="bad-table")
    if lines is None:
        lines = sum(len(cells[named[0]]) for cells in read_blocks(TableFile(path, header, -1), named[:1]))
    return TableFile(path, header, lines)


def read_blocks(file: TableFile, wanted: Sequence[str]) -> Iterator[dict[str, Array]]:
    """The wanted columns, block by block: name -> (lines,) UTF-8 bytes of fixed width, or strings where one is long.

    A column the file lacks is empty.

    Raises:
        Refused: lines of different length, or another number of lines than the file must have.
        SurroundingsFailed: it cannot be read.
    """
    at = {name: file.header.index(name) if name in file.header else -1 for name in wanted}
    count = 0
    try:
        with _opened(file.path) as handle:
            for columns, lines in _blocks(handle, file, sorted({i for i in at.values() if i >= 0})):
                count += lines
                empty = np.zeros(lines, dtype="S1")
                yield {name: columns.get(i, empty) for name, i in at.items()}
    except _UNREADABLE as error:
        raise _not_a_table(file.path, error) from None
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(file.path)) from None
    if file.lines not in (-1, count):
        raise Refused(
            f"the table has {count} lines for {file.lines} networks", where=printable(file.path), code="bad-table"
        )


def cells_of(texts: Sequence[str]) -> Array:
    """Text -> UTF-8 bytes of fixed width, or an array of the strings where one of them is long."""
    if max(map(len, texts), default=0) > NARROW:
        return np.array(texts, dtype=object)
    narrow = np.array(texts, dtype=np.str_)
    try:
        return narrow.astype(np.bytes_)
    except UnicodeEncodeError:
        return np.char.encode(narrow, "utf-8")


def texts_of(cells: Array) -> Array:
    """The inverse of `cells_of`."""
    if cells.dtype == object:
        return cells
    try:
        return cells.astype(np.str_)
    except UnicodeDecodeError:
        return np.char.decode(cells, "utf-8")


def _blocks(handle: IO[bytes], file: TableFile, wanted: Sequence[int]) -> Iterator[tuple[dict[int, Array], int]]:
    """Column number -> cells, and the number of lines, block by block."""
    start = len(first) if b'"' not in (first := handle.readline(_LONGEST_LINE)) and first.endswith(b"\n") else 0
    rest = b""
    while start:
        block = handle.read(_BLOCK)
        data = rest + block
        if not data:
            return
        if len(data) > _LONGEST_LINE + _BLOCK:
            raise Refused("a line is too long", where=printable(file.path), code="bad-table")
        cut = data.rfind(b"\n") + 1 if block else len(data)
        if not cut:
            rest = data
            continue
        found = _plain_block(data[:cut], len(file.header), wanted)
        if found is None:
            break
        yield found
        start, rest = start + cut, data[cut:]
    handle.seek(start)
    yield from _quoted_blocks(_as_text(handle), file, wanted, skip_header=not start)


def _plain_block(data: bytes, width: int, wanted: Sequence[int]) -> tuple[dict[int, Array], int] | None:
    """Cells of whole lines; None where quotes, other line ends, letters beyond ASCII or long cells are in the way."""
    if b'"' in data or b"\r" in data or b"\0" in data or not data.isascii():
        return None
    buffer = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", dtype=np.uint8)
    found = np.flatnonzero((buffer == _COMMA) | (buffer == _NEWLINE))
    if len(found) % width:
        return None
    starts = np.concatenate([np.zeros(1, found.dtype), found[:-1] + 1]).reshape(-1, width)
    ends = found.reshape(-1, width)
    newlines = buffer[ends] == _NEWLINE
    if not newlines[:, -1].all() or newlines[:, :-1].any() or (width == 1 and (starts == ends).any()):
        return None
    columns: dict[int, Array] = {}
    for i in wanted:
        lengths = ends[:, i] - starts[:, i]
        longest = max(int(lengths.max(initial=0)), 1)
        if longest > NARROW:
            return None
        offsets = np.arange(longest)
        cells = np.take(buffer, starts[:, i, None] + offsets, mode="clip")
        cells[offsets >= lengths[:, None]] = 0
        columns[i] = cells.view(f"S{longest}")[:, 0]
    return columns, len(ends)


def _quoted_blocks(
    text: IO[str], file: TableFile, wanted: Sequence[int], skip_header: bool
) -> Iterator[tuple[dict[int, Array], int]]:
    reader = csv.reader(text)
    if skip_header:
        next(reader, None)
    while chunk := list(islice(reader, _CHUNK)):
        lines = [line for line in chunk if line]
        if any(len(line) != len(file.header) for line in lines):
            raise Refused("the table has lines of different length", where=printable(file.path), code="bad-table")
        yield {i: cells_of([line[i] for line in lines]) for i in wanted}, len(lines)


def _opened(path: Path) -> IO[bytes]:
    try:
        return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(path)) from None


def _as_text(handle: IO[bytes]) -> IO[str]:
    return io.TextIOWrapper(handle, encoding="utf-8", newline="")


def _not_a_table(path: Path, error: Exception) -> Refused:
    return Refused(f"not a CSV table ({printable(error)})", where=printable(path), code="bad-table")
