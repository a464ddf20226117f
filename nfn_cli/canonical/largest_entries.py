"""canonical/largest_entries.py: the entries of a coupling that are, or may become, the largest of their row or column. No tensor.

Ranges are solved by many sweeps in which scales hardly move. Entries that are too small to become the largest while the factors of
one side move by less than `SPREAD` against each other are left out; when they have moved further, the list is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nfn_cli.canonical.coupling import Coupling
from nfn_cli.symmetry.element import FloatArray

SPREAD = 0.2


class LargestEntries:
    """One coupling of largest |entries|.

    Attributes:
        row, column: (entries,) groups of either side, in order of rows.
        log: (entries,) log of the unscaled entries.
    """

    def __init__(self, term: Coupling, weight: FloatArray) -> None:
        self._matrix = term.matrix
        # entries of classes that do not count are no entries
        self._counted = [
            np.where(side.coefficient != 0, weight[side.classes], 1.0).prod(axis=0)
            for side in (term.rows, term.columns)
        ]
        self._made_at: tuple[FloatArray, FloatArray] | None = None
        self.row = self.column = np.zeros(0, np.int64)
        self.log = np.zeros(0)

    def spread(self, left: FloatArray, right: FloatArray) -> float:
        """How far the log-factors of rows or of columns have moved against each other since the list was made."""
        if self._made_at is None:
            return np.inf
        return max(_spread(now - before) for now, before in zip((left, right), self._made_at, strict=True))

    def choose(self, left: FloatArray, right: FloatArray) -> None:
        """Make the list for these log-factors of rows and columns."""
        self._made_at = left, right
        rows, columns = (np.exp(f - f.max(initial=0.0)) * c for f, c in zip((left, right), self._counted, strict=True))
        reach, top, found = np.exp(-1.01 * SPREAD), np.zeros(len(columns)), []
        for part, matrix in self._parts():
            np.maximum(top, (matrix * rows[part, None]).max(axis=0, initial=0.0), out=top)
        sizes = [np.zeros(0)]
        for part, matrix in self._parts():
            across = matrix * columns
            high = across >= reach * across.max(axis=1, initial=0.0)[:, None]
            high |= matrix * rows[part, None] >= reach * top
            high &= (across > 0) & (rows[part, None] > 0)
            found.append(np.flatnonzero(high) + part.start * len(columns))
            sizes.append(matrix[high])
        flat = np.concatenate(found) if found else np.zeros(0, np.int64)
        self.row, self.column = np.divmod(flat, max(1, len(columns)))
        self.log = np.log(np.concatenate(sizes))

    def _parts(self) -> Iterator[tuple[slice, FloatArray]]:
        start = 0
        for block in self._matrix.blocks():
            yield slice(start, start + len(block)), block
            start += len(block)


def _spread(moved: FloatArray) -> float:
    return float(np.ptp(moved)) if len(moved) else 0.0
