"""symmetry/extras/shift_space.py: the solutions of a shift system: which variables stay free and what follows them. Arrays only.

Channels do not mix, so the equations fall into many small ones, the same for all channels of a block. A tie (a layer norm)
joins the channels of a run in one respect: they may move together. On vectors with mean 0 in each run a tie is a pin; on those
that are constant along each run it is nothing. So two small eliminations give the whole space.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nfn_cli.symmetry.extras.extra import FloatArray, IntArray
from nfn_cli.symmetry.extras.shift_system import Row, ShiftSystem

Block = tuple[int, int]  # number of a variable, its first entry


@dataclass(frozen=True, eq=False)
class Direction:
    """One family of solutions: for each of `count` free numbers, amounts of several variables.

    Attributes:
        free: the variable that this family makes redundant.
        amounts: block -> amount of it.
        channels: which entries of the blocks, counted from their starts.
        runs: 0: each channel has a number of its own; else the channels fall into so many runs with one number each.
    """

    free: int
    amounts: Mapping[Block, float]
    channels: IntArray
    runs: int = 0

    @property
    def count(self) -> int:
        return self.runs or len(self.channels)


def directions(system: ShiftSystem) -> list[Direction]:
    """A basis of all constants that may be added at once, eliminated so that means are free before biases."""
    rows, blocks = _atoms(system)
    out: list[Direction] = []
    for members, size in _components(rows, blocks):
        inside = [row for row in rows if any(block in members for block in row.terms)]
        ordered = sorted(members, key=lambda block: (system.variables[block[0]].role == "running_mean", block))
        out.extend(_solved(system, ordered, inside, size))
    return out


def _atoms(system: ShiftSystem) -> tuple[list[Row], dict[Block, int]]:
    """Rows and variables cut so that a row holds whole blocks only. A tie that is cut is pinned: one direction less."""
    cuts: dict[int, set[int]] = defaultdict(set)
    for number, made in enumerate(system.variables):
        if made.role != "output":
            cuts[number] |= {0, made.size}
    changed = True
    for row in system.rows:
        for variable, start in row.terms:
            cuts[variable] |= {start, start + row.size}
    while changed:
        changed = False
        for row in system.rows:
            inner = _inner_cuts(row, cuts)
            for variable, start in row.terms:
                wanted = {start + cut for cut in inner}
                if not wanted <= cuts[variable]:
                    cuts[variable] |= wanted
                    changed = True
    rows = []
    for row in system.rows:
        edges = [0, *sorted(_inner_cuts(row, cuts)), row.size]
        for low, high in pairwise(edges):
            terms = {(variable, start + low): c for (variable, start), c in row.terms.items()}
            rows.append(Row(high - low, terms, row.runs if len(edges) == 2 else 0))
    blocks: dict[Block, int] = {}
    for variable, places in cuts.items():
        edges = sorted(places)
        blocks |= {(variable, low): high - low for low, high in pairwise(edges)}
    return rows, blocks


def _inner_cuts(row: Row, cuts: Mapping[int, set[int]]) -> set[int]:
    return {cut - start for variable, start in row.terms for cut in cuts[variable] if start < cut < start + row.size}


def _components(rows: Sequence[Row], blocks: Mapping[Block, int]) -> Iterable[tuple[set[Block], int]]:
    owner = {block: {block} for block in blocks}
    for row in rows:
        joined = set().union(*(owner[block] for block in row.terms))
        for block in joined:
            owner[block] = joined
    done: set[Block] = set()
    for block, size in blocks.items():
        if block not in done:
            done |= owner[block]
            yield owner[block], size


def _solved(system: ShiftSystem, blocks: list[Block], rows: list[Row], size: int) -> list[Direction]:
    place = {block: column for column, block in enumerate(blocks)}
    matrix = np.zeros((len(rows), len(blocks)))
    for number, row in enumerate(rows):
        for block, c in row.terms.items():
            matrix[number, place[block]] = c
    dead = np.array([system.variables[v].dead[start : start + size] for v, start in blocks])
    runs = {row.runs for row in rows if row.runs}
    tied = np.array([row.runs > 0 for row in rows], bool)
    out: list[Direction] = []
    if dead.any():
        patterns, which = np.unique(dead, axis=1, return_inverse=True)
    else:
        patterns, which = dead[:, :1], np.zeros(size, np.int64)
    for number, pattern in enumerate(patterns.T):
        channels = np.flatnonzero(which.reshape(-1) == number)
        reduced = np.where(pattern, 0.0, matrix)
        found = null_space(reduced)
        out.extend(_direction(blocks, free, amounts, channels) for free, amounts in found.items())
        if len(runs) == 1 and len(patterns.T) == 1:
            loose = null_space(reduced[~tied])
            out.extend(
                _direction(blocks, free, amounts, channels, next(iter(runs)))
                for free, amounts in loose.items()
                if free not in found
            )
    return out


def _direction(blocks: Sequence[Block], free: int, amounts: FloatArray, channels: IntArray, runs: int = 0) -> Direction:
    named = {block: float(amount) for block, amount in zip(blocks, amounts, strict=True) if amount}
    return Direction(blocks[free][0], named, channels, runs)


def null_space(matrix: FloatArray) -> dict[int, FloatArray]:
    """(r, c) -> for each column that depends on those before it, the solution with 1 there and 0 at later such columns."""
    work, pivots, row = matrix.copy(), [], 0
    for column in range(work.shape[1]):
        if row < len(work):
            best = row + int(np.argmax(np.abs(work[row:, column])))
            if abs(work[best, column]) > 1e-9:
                work[[row, best]] = work[[best, row]]
                work[row] /= work[row, column]
                others = np.delete(np.arange(len(work)), row)
                work[others] -= np.outer(work[others, column], work[row])
                pivots.append(column)
                row += 1
    found = {}
    for column in range(work.shape[1]):
        if column not in pivots:
            solution = np.zeros(work.shape[1])
            solution[column] = 1.0
            solution[pivots] = -work[: len(pivots), column]
            solution[np.abs(solution) < 1e-12] = 0.0
            found[column] = solution
    return found
