"""match/fingerprint_moments.py: sums over the entries of one tensor of many networks, weighted at both ends. Knows plans, arrays.

All that fingerprints ask of a tensor are products of (networks, groups, A, B) matrices with vectors. Small tensors keep these
matrices; of large ones they are made anew for every product, some rows at a time, from the array as it lies in the file: what is
held is then a few megabytes, whatever the size of the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nfn_cli.match.fingerprint_plan import Array, FingerprintPlan, TensorPlan
from nfn_cli.symmetry.element import FloatArray

_PIECE_ENTRIES = 1 << 18


class StackedMatrix(Protocol):
    """One (groups, A, B) matrix of each network."""

    def by_row(self, columns: FloatArray) -> FloatArray:
        """(networks, groups · B) -> (networks, groups · A): each row times these."""

    def by_column(self, rows: FloatArray) -> FloatArray:
        """(networks, groups · A) -> (networks, groups · B): these times each column."""


@dataclass(frozen=True, eq=False)
class Held:
    """(networks, groups, A, B) in memory."""

    matrix: FloatArray

    def by_row(self, columns: FloatArray) -> FloatArray:
        count, groups, _, b = self.matrix.shape
        return np.asarray(np.matmul(self.matrix, columns.reshape(count, groups, b, 1)).reshape(count, -1))

    def by_column(self, rows: FloatArray) -> FloatArray:
        count, groups, a, _ = self.matrix.shape
        return np.asarray(np.matmul(rows.reshape(count, groups, 1, a), self.matrix).reshape(count, -1))


@dataclass(frozen=True, eq=False)
class MadeAnew:
    """Made of the entries for every product, some rows at a time; without groups."""

    plan: TensorPlan
    array: Array
    kind: str

    def by_row(self, columns: FloatArray) -> FloatArray:
        out = np.empty((len(self.array), len(self.plan.rows)))
        for rows, block in self._blocks():
            out[:, rows] = np.matmul(block, columns[:, :, None])[:, :, 0]
        return out

    def by_column(self, rows: FloatArray) -> FloatArray:
        out = np.zeros((len(self.array), len(self.plan.columns)))
        for some, block in self._blocks():
            out += np.matmul(rows[:, None, some], block)[:, 0]
        return out

    def _blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Rows, and (networks, those rows, B)."""
        for rows in row_pieces(self.plan, len(self.array)):
            entries = entries_of(self.plan, self.array, rows)
            yield rows, _MOMENTS[self.kind](self.plan, entries, np.square(entries))


@dataclass(frozen=True, eq=False)
class Moments:
    """Of one tensor of many networks, summed over all but its two ends.

    Attributes:
        squares: of the entries.
        positioned: the same, weighted by position.
        signed: the same with the signs of the entries; None where signs act.
        fourth: fourth powers.
    """

    plan: TensorPlan
    squares: StackedMatrix
    positioned: StackedMatrix
    signed: StackedMatrix | None
    fourth: StackedMatrix


def _squares(_plan: TensorPlan, _entries: FloatArray, squares: FloatArray) -> FloatArray:
    return np.asarray(squares.sum(axis=-1))


def _positioned(plan: TensorPlan, _entries: FloatArray, squares: FloatArray) -> FloatArray:
    return np.asarray(squares @ plan.spread)


def _signed(plan: TensorPlan, entries: FloatArray, squares: FloatArray) -> FloatArray:
    return np.asarray((squares * np.sign(entries)) @ plan.spread)


def _fourth(_plan: TensorPlan, _entries: FloatArray, squares: FloatArray) -> FloatArray:
    return np.asarray(np.square(squares).sum(axis=-1))


_MOMENTS = {"squares": _squares, "positioned": _positioned, "signed": _signed, "fourth": _fourth}


def moments(plan: FingerprintPlan, tensors: Mapping[str, Array]) -> list[Moments]:
    """Of every tensor: name -> (networks, *shape)."""
    return [_of_tensor(tensor, tensors[tensor.name], tensor.name in plan.large) for tensor in plan.tensors]


def _of_tensor(plan: TensorPlan, array: Array, large: bool) -> Moments:
    array = array.reshape(len(array), *plan.shape)
    kinds = [kind for kind in _MOMENTS if kind != "signed" or not plan.signed]
    made: dict[str, StackedMatrix]
    if large:
        made = {kind: MadeAnew(plan, array, kind) for kind in kinds}
    else:
        made = {kind: Held(matrix) for kind, matrix in _held(plan, array, kinds).items()}
    return Moments(plan, made["squares"], made["positioned"], made.get("signed"), made["fourth"])


def _held(plan: TensorPlan, array: Array, kinds: list[str]) -> dict[str, FloatArray]:
    count, (groups, a, b, k) = len(array), plan.matrix
    out = {kind: np.empty((count, groups, a, b)) for kind in kinds}
    step = max(1, _PIECE_ENTRIES // max(1, groups * a * b * k))
    for start in range(0, count, step):
        piece = slice(start, start + step)
        for rows in row_pieces(plan, min(step, count - start)):
            entries = entries_of(plan, array[piece], rows).reshape(-1, groups, (rows.stop - rows.start) // groups, b, k)
            squares = np.square(entries)
            for kind in kinds:
                out[kind][piece, :, rows if groups == 1 else slice(None)] = _MOMENTS[kind](plan, entries, squares)
    return out


def row_pieces(plan: TensorPlan, networks: int) -> Iterator[slice]:
    """Rows of which a piece of memory may be made; all at once where there are groups."""
    count = len(plan.rows)
    others = max(1, networks * len(plan.columns) // plan.groups * len(plan.spread))
    step = max(1, _PIECE_ENTRIES // others) if plan.groups == 1 else count
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def entries_of(plan: TensorPlan, array: Array, rows: slice) -> FloatArray:
    """(networks, *shape) -> (networks, some rows, B, K) in float64; phases turned into what phase counts leave alone."""
    some = array.transpose(0, *(axis + 1 for axis in plan.order))[:, rows]
    wide = some.astype(np.float64) + plan.offset if plan.offset else some.astype(np.float64)
    if plan.periods is not None:
        periods = plan.periods[rows]
        turns = periods > 0
        angle = 2 * np.pi * wide[:, turns] / periods[turns].reshape(-1, *(1,) * (wide.ndim - 2))
        wide[:, turns] = 0.75 + 0.25 * np.cos(angle)  # far from 0, whose logarithm would be noise
    _, _, b, k = plan.matrix
    return wide.reshape(len(wide), -1, b, k)
