"""zoo/columns.py: columns of tables of many lines, read when asked for. Knows CSV files; nothing of networks.

A table with a million lines and twenty columns is gigabytes as Python strings, so nothing is kept but the columns that
were asked for: numbers as float64, short text as bytes of fixed width, long text as shared strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.printable import printable
from nfn_cli.zoo.csv_blocks import Array, TableFile, texts_of

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_LONGEST_NUMBER = 64  # characters of a cell that can be a number


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
        return texts_of(self._selected(self._text[name]))

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
        shared: dict[str, str] = {}
        kinds: dict[tuple[str, bool], _Keep] = {(n, False): _kept_text for n in text if n not in self._text}
        kinds |= {(n, True): _kept_numbers for n in numbers if n not in self._numbers}
        pieces: dict[tuple[str, bool], list[Array]] = {kind: [] for kind in kinds}
        for file in self.files if kinds else ():
            for cells in file.blocks(sorted({name for name, _ in kinds})):
                for (name, numeric), keep in kinds.items():
                    pieces[name, numeric].append(keep(name, cells[name], file.path, shared))
        for (name, numeric), found in pieces.items():
            if numeric:
                self._numbers[name] = np.concatenate([np.zeros(0), *found])
            else:
                self._text[name] = _joined_text(found, shared)

    def blocks(self) -> Iterator[dict[str, Array]]:
        """All columns of these rows as `csv_blocks` gives them, block by block in the order of the files; kept nowhere."""
        keep = np.zeros(sum(file.lines for file in self.files), dtype=bool)
        keep[slice(None) if self.rows is None else self.rows] = True
        start = 0
        for file in self.files:
            for cells in file.blocks(list(self)):
                stop = start + len(next(iter(cells.values())))
                kept = keep[start:stop]
                yield cells if kept.all() else {name: some[kept] for name, some in cells.items()}
                start = stop

    def where(self, keep: Array) -> Columns:
        """The rows for which `keep` (bool or indices) holds; columns parsed so far are shared, not copied."""
        count = sum(file.lines for file in self.files)
        rows = np.arange(count, dtype=np.int64) if self.rows is None else self.rows
        return Columns(self.files, rows[keep], self._text, self._numbers)

    def _selected(self, column: Array) -> Array:
        return column if self.rows is None else column[self.rows]


def numbers_of(cells: Array) -> FloatArray:
    """Cells as `csv_blocks` gives them -> float64; empty ones are NaN.

    Raises:
        ValueError: a cell is no number.
    """
    if cells.dtype == object:
        if max(map(len, cells), default=0) > _LONGEST_NUMBER:
            raise ValueError("too long for a number")
        cells = cells.astype(np.str_)
    empty = cells == cells.dtype.type()
    if empty.any():
        numbers = np.full(len(cells), np.nan)
        numbers[~empty] = cells[~empty].astype(np.float64)
        return numbers
    return cells.astype(np.float64)


_Keep = Callable[[str, Array, Path, dict[str, str]], Array]


def _kept_numbers(name: str, cells: Array, path: Path, shared: dict[str, str]) -> Array:
    try:
        return numbers_of(cells)
    except ValueError:
        wrong = next((cell for cell in texts_of(cells).tolist() if not _is_number(cell)), "")
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


def _kept_text(name: str, cells: Array, path: Path, shared: dict[str, str]) -> Array:
    return _as_shared(cells, shared) if cells.dtype == object else cells


def _as_shared(cells: Array, shared: dict[str, str]) -> Array:
    """Strings, each distinct one kept once."""
    return np.array([shared.setdefault(cell, cell) for cell in texts_of(cells).tolist()], dtype=object)


def _joined_text(pieces: list[Array], shared: dict[str, str]) -> Array:
    if not pieces:
        return np.zeros(0, dtype="S1")
    if any(piece.dtype == object for piece in pieces):
        return np.concatenate([piece if piece.dtype == object else _as_shared(piece, shared) for piece in pieces])
    return np.concatenate(pieces)
