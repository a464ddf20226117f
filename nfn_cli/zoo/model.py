"""zoo/model.py: a data set whose rows are networks, whatever its files are. Knows families and columns; no file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.zoo_shard import row_checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.graph_file import GRAPH_KEY
from nfn_cli.graph.model import Network
from nfn_cli.graph.stored_graph import graph_to_text, network_of
from nfn_cli.zoo.columns import Columns, FloatArray, IntArray
from nfn_cli.zoo.csv_blocks import Array
from nfn_cli.zoo.family import Family
from nfn_cli.zoo.runs import run_names


@dataclass(frozen=True)
class LeftOut:
    """A checkpoint that a table names and that is no row, and why."""

    path: str
    code: str
    reason: str


@dataclass(frozen=True)
class Zoo:
    """Networks and what is known about each. Selecting rows copies numbers of rows, never weights.

    Attributes:
        folder: as the user named it.
        description: what it says of itself.
        families: the networks, by their graph; every row belongs to exactly one.
        columns: name -> (n,) text, read when asked for; numbers with `numbers`.
        sources: (n,) number of each row in the files: `DIR#number` names it for every command.
        left_out: what could not become a row.
        notes: what was taken for granted when it was opened.
    """

    folder: str
    description: str
    families: tuple[Family, ...]
    columns: Columns
    sources: IntArray
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def numbers(self, column: str) -> FloatArray:
        """A column as float64 (n,); empty cells are NaN.

        Raises:
            Refused: no such column, or a cell that is no number.
        """
        return self.columns.numbers(column)

    @property
    def runs(self) -> Array:
        """(n,) names of the runs; rows of one run must never straddle a split.

        Raises:
            Refused: no column tells.
        """
        return run_names(self.columns, self.folder)

    def where(self, keep: Array) -> Zoo:
        """The rows for which `keep` (bool or indices without repetition) holds, numbered anew in that order."""
        kept = np.arange(len(self), dtype=np.int64)[keep]
        new_rows = np.full(len(self), -1, dtype=np.int64)
        new_rows[kept] = np.arange(len(kept))
        families = tuple(family for each in self.families if len(family := each.kept(new_rows)))
        return replace(self, families=families, columns=self.columns.where(keep), sources=self.sources[kept])

    def checkpoint(self, row: int) -> Checkpoint:
        """One row as a checkpoint, its graph in its metadata; reads the tensors of this row alone."""
        family, place = self._family_of(row)
        tensors = {name: array[0] for name, array in family.tensors(rows=[place]).items()}
        metadata = {GRAPH_KEY: graph_to_text(family.graph)}
        return row_checkpoint(f"{self.folder}#{int(self.sources[row])}", tensors, metadata, ())

    def network(self, row: int) -> Network:
        """The network of a row; its parameters are named as in `checkpoint(row)`."""
        return network_of(self._family_of(row)[0].graph)

    def _family_of(self, row: int) -> tuple[Family, int]:
        if not 0 <= row < len(self):
            raise Refused(f"there is no row {row}", fix=f"rows are 0 to {len(self) - 1}", code="no-such-row")
        family, place = (int(number[row]) for number in self._places)
        return self.families[family], place

    @cached_property
    def _places(self) -> tuple[IntArray, IntArray]:
        """Of each row: the number of its family, and its position there."""
        families = np.full(len(self), -1, dtype=np.int64)
        places = np.zeros(len(self), dtype=np.int64)
        for number, family in enumerate(self.families):
            families[family.rows] = number
            places[family.rows] = np.arange(len(family))
        return families, places
