"""zoo/columns.py: tables of many lines, a column at a time. Knows CSV files; nothing of networks.

A table with a million lines and twenty columns is gigabytes as Python strings, so nothing is kept but the columns that
were asked for: numbers as float64, short text as bytes of fixed width, long text as shared strings.
"""

from __future__ import annotations

import csv
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_CHUNK = 1 << 15  # lines parsed at a time
_NARROW = 32  # characters; a column of wider text would cost its widest cell in every row
_LONGEST_NUMBER = 64  # characters of a cell that can be a number
_Convert = Callable[[str, list[str], Path], Array]


@dataclass(frozen=True)
class TableFile:
    """One CSV file, gzipped or not: where it lies, its columns, and the number of lines it must have.

    Attributes:
        path: the file.
        header: names of its columns in their order; "" is an index and no column.
        lines: number of lines below the header.
    """

    path: Path
    header: tuple[str, ...]
    lines: int


@dataclass(frozen=True)
class Columns(Mapping[str, Array]):
    """Columns of some rows of one table that lies in one or more files, read when first asked for.

    `columns[name]` is text (n,), `numbers(name)` float64 (n,). A column that one file lacks is empty there.

    Attributes:
        files: the table, one after another.
        rows: (n,) lines of the whole table, or None for all.
    """

    files: tuple[TableFile, ...]
    rows: IntArray | None = None
    _text: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    _numbers: dict[str, FloatArray] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for file in self.files for name in file.header if name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name != "" and any(name in file.header for file in self.files)

    def __getitem__(self, name: str) -> Array:
        if name not in self:
            raise KeyError(name)
        self.read(text=[name])
        return _decoded(self._selected(self._text[name]))

    def numbers(self, name: str) -> FloatArray:
        """A column as float64 (n,); empty cells are NaN.

        Raises:
            Refused: a cell is no number, or there is no such column.
        """
        if name not in self:
            where = str(self.files[0].path) if self.files else ""
            raise Refused(
                f"there is no column {printable(name)!r}",
                where=printable(where),
                fix=f"there is: {printable(', '.join(self), limit=400)}",
                code="no-such-column",
            )
        self.read(numbers=[name])
        return self._selected(self._numbers[name])

    def read(self, *, text: Sequence[str] = (), numbers: Sequence[str] = ()) -> None:
        """Parse these columns in one pass over the files; what was parsed before is not parsed again."""
        kinds: dict[tuple[str, bool], _Convert] = {
            (name, False): _text_cells for name in text if name not in self._text
        }
        kinds |= {(name, True): _number_cells for name in numbers if name not in self._numbers}
        pieces: dict[tuple[str, bool], list[Array]] = {kind: [] for kind in kinds}
        shared: dict[str, str] = {}
        for file in self.files if kinds else ():
            wanted = sorted({name for name, _ in kinds})
            for cells in read_lines(file, wanted):
                for (name, numeric), convert in kinds.items():
                    piece = convert(name, cells[name], file.path)
                    pieces[name, numeric].append(_shared(piece, shared) if piece.dtype == object else piece)
        for (name, numeric), found in pieces.items():
            if numeric:
                self._numbers[name] = np.concatenate([np.zeros(0), *found])
            else:
                self._text[name] = _joined_text(found)

    def lines(self) -> Iterator[dict[str, list[str]]]:
        """All columns, some thousand of these rows at a time, in the order of the files. Nothing is kept."""
        keep = np.zeros(sum(file.lines for file in self.files), dtype=bool)
        keep[slice(None) if self.rows is None else self.rows] = True
        start = 0
        for file in self.files:
            for cells in read_lines(file, list(self)):
                count = len(next(iter(cells.values())))
                kept = keep[start : start + count]
                yield cells if kept.all() else {name: list(compress(some, kept)) for name, some in cells.items()}
                start += count

    def where(self, keep: Array) -> Columns:
        """The rows for which `keep` (bool or indices) holds; columns parsed so far are shared, not copied."""
        count = sum(file.lines for file in self.files)
        rows = np.arange(count, dtype=np.int64) if self.rows is None else self.rows
        return Columns(self.files, rows[keep], self._text, self._numbers)

    def _selected(self, column: Array) -> Array:
        return column if self.rows is None else column[self.rows]


def table_file(path: Path, lines: int | None = None) -> TableFile:
    """Open a table: its header, and its number of lines (counted where `lines` is not given; nothing is kept).

    Raises:
        Refused: no header, a name twice or with control characters, another number of lines.
        SurroundingsFailed: it cannot be read.
    """
    with _opened(path) as handle:
        try:
            header = tuple(next(csv.reader(handle), ()))
        except (ValueError, csv.Error, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from None
    named = [name for name in header if name]
    if not named:
        raise Refused("the table has no header", where=printable(path), code="bad-table")
    for name in named:
        if not name.isprintable() or named.count(name) > 1:
            problem = "twice" if name.isprintable() else "with control characters"
            raise Refused(f"the header names {printable(name)!r} {problem}", where=printable(path), code="bad-table")
    if lines is None:
        lines = sum(len(cells[named[0]]) for cells in read_lines(TableFile(path, header, -1), named[:1]))
    return TableFile(path, header, lines)


def read_lines(file: TableFile, wanted: Sequence[str]) -> Iterator[dict[str, list[str]]]:
    """The wanted columns, some thousand lines at a time; a column the file lacks is empty.

    Raises:
        Refused: lines of different length, or another number of lines than the file must have (unless that is −1).
        SurroundingsFailed: it cannot be read.
    """
    at = {name: file.header.index(name) for name in wanted if name in file.header}
    count = 0
    with _opened(file.path) as handle:
        reader = csv.reader(handle)
        try:
            next(reader, None)
            while chunk := list(islice(reader, _CHUNK)):
                chunk = [line for line in chunk if line]
                if any(len(line) != len(file.header) for line in chunk):
                    raise Refused(
                        "the table has lines of different length", where=printable(file.path), code="bad-table"
                    )
                count += len(chunk)
                yield {n: [line[at[n]] for line in chunk] if n in at else [""] * len(chunk) for n in wanted}
        except (ValueError, csv.Error, EOFError, zlib.error) as error:
            raise _unreadable(file.path, error) from None
        except OSError as error:
            raise SurroundingsFailed(f"cannot be read ({error})", where=printable(file.path)) from None
    if file.lines not in (-1, count):
        raise Refused(
            f"the table has {count} lines for {file.lines} networks", where=printable(file.path), code="bad-table"
        )


def _opened(path: Path) -> IO[str]:
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", newline="", encoding="utf-8")
        return open(path, newline="", encoding="utf-8")
    except OSError as error:
        raise SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(path)) from None


def _unreadable(path: Path, error: Exception) -> Refused:
    return Refused(f"not a CSV table ({printable(error)})", where=printable(path), code="bad-table")


def _text_cells(name: str, cells: list[str], path: Path) -> Array:
    if max(map(len, cells), default=0) > _NARROW:
        return np.array(cells, dtype=object)
    narrow = np.array(cells, dtype=np.str_)
    try:
        return narrow.astype(np.bytes_)
    except UnicodeEncodeError:
        return np.char.encode(narrow, "utf-8")


def _number_cells(name: str, cells: list[str], path: Path) -> Array:
    if max(map(len, cells), default=0) <= _LONGEST_NUMBER:
        try:
            return np.array([cell or "nan" for cell in cells], dtype=np.str_).astype(np.float64)
        except ValueError:
            pass
    wrong = next((cell for cell in cells if not _is_number(cell)), "")
    raise Refused(
        f"the column {printable(name)!r} holds {printable(wrong, 40)!r}, which is no number",
        where=printable(path),
        code="not-a-number",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return len(cell) <= _LONGEST_NUMBER


def _shared(cells: Array, known: dict[str, str]) -> Array:
    """The same strings, each distinct one kept once."""
    return np.array([known.setdefault(cell, cell) for cell in cells], dtype=object)


def _joined_text(pieces: list[Array]) -> Array:
    if not pieces:
        return np.zeros(0, dtype="S1")
    if any(piece.dtype == object for piece in pieces):
        return np.concatenate([_as_objects(piece) for piece in pieces])
    return np.concatenate(pieces)


def _as_objects(piece: Array) -> Array:
    if piece.dtype == object:
        return piece
    return np.array([sys.intern(cell) for cell in _decoded(piece).tolist()], dtype=object)


def _decoded(column: Array) -> Array:
    """Bytes of fixed width, or shared strings -> text."""
    if column.dtype == object:
        return column
    try:
        return column.astype(np.str_)
    except UnicodeDecodeError:
        return np.char.decode(column, "utf-8")
