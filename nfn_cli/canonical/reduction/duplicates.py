"""canonical/reduction/duplicates.py: rows that are multiples of one another, numbers that are equal up to rounding. Arrays only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray

_DIRECTIONS = 6
# Coarse element types put many rows within tolerance of each other's projections: the closest are tried first.
_WIDTHS = (1 / 1024, 1 / 32, 1 / 4, 1.0, 1.0)
_CHUNK_ENTRIES = 1 << 20

Rows = Callable[[IntArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, eq=False)
class Close:
    """(n,) keys that count as equal within the sum of their tolerances."""

    values: FloatArray
    tolerance: FloatArray


def grouped(exact: Sequence[IntArray], close: Sequence[Close]) -> IntArray:
    """(n,) group numbers, 0 …: equal in every exact key and, within tolerance, in every close one.

    Members of a chain that lie too far from its first one are groups of their own: what is missed is only not merged.
    """
    n = len(exact[0])
    if n == 0:
        return np.zeros(0, np.int64)
    group = np.zeros(n, np.int64)
    for number in exact:
        _, group = np.unique(np.stack([group, number]), axis=1, return_inverse=True)
        group = group.reshape(-1).astype(np.int64)
    for _ in range(2):  # a second look, for runs that the first looks at later keys cut
        for key in close:
            order = np.lexsort((key.values, group))
            values, tolerance, old = key.values[order], key.tolerance[order], group[order]
            new = (old[1:] != old[:-1]) | ~(values[1:] - values[:-1] <= tolerance[1:] + tolerance[:-1])
            group[order] = np.concatenate([[0], np.cumsum(new)])
    first = first_of(group)[group]
    far = np.zeros(n, bool)
    for key in close:
        far |= ~(np.abs(key.values - key.values[first]) <= 2 * (key.tolerance + key.tolerance[first]))
    group[far] = group.max() + 1 + np.arange(int(far.sum()))
    return np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)


def first_of(group: IntArray) -> IntArray:
    """(groups,) the first member of each."""
    first = np.full(int(group.max(initial=-1)) + 1, len(group), np.int64)
    np.minimum.at(first, group, np.arange(len(group)))
    return first


@dataclass(frozen=True, eq=False)
class Multiples:
    """Row i is factor[i] · row of[i]; rows that are 0 have of −1.

    Attributes:
        residual: (n,) the relative distance that is left.
    """

    of: IntArray
    factor: FloatArray
    residual: FloatArray


def multiples(rows: Rows, n: int, key: IntArray, rounding: float, tolerance: float, smallest: float) -> Multiples:
    """Find rows that are multiples of one another among those with equal `key`.

    Args:
        rows: index (k,) -> (k, d) rows and, entry by entry, the sum of magnitudes that they were added up from.
        rounding: what each entry may be off, as a part of that sum.
        tolerance: a distance, relative to the row, that also counts as none.
        smallest: below this an entry is no number but underflow.
    """
    norm, marks = np.zeros(n), np.zeros((n, _DIRECTIONS))
    for index in _chunks(rows, n):
        part, parts = rows(index)
        part = np.where(np.abs(part) <= rounding * parts, 0.0, part)
        if not index[0]:
            directions = np.random.default_rng(part.shape[1]).standard_normal((part.shape[1], _DIRECTIONS))
            directions /= np.linalg.norm(directions, axis=0)
        size = np.abs(part).max(axis=1, initial=0.0)
        part /= np.where(size > 0, size, 1.0)[:, None]  # squares of tiny or huge entries must not leave the range
        length = np.linalg.norm(part, axis=1)
        norm[index] = length * size
        marks[index] = np.abs(part @ directions) / np.where(length > 0, length, 1.0)[:, None]
    of, factor, residual = np.arange(n), np.ones(n), np.zeros(n)
    of[norm == 0] = -1
    for part_of_width in _WIDTHS:
        pending = np.flatnonzero(of == np.arange(n))
        width = np.full(len(pending), part_of_width * (4 * rounding + tolerance))
        group = grouped([key[pending]], [Close(mark, width) for mark in marks[pending].T])
        first = pending[first_of(group)][group]
        candidates, lead = pending[first != pending], first[first != pending]
        if len(candidates):
            fits, ratio, distance = _compared(rows, candidates, lead, norm, rounding, tolerance, smallest)
            found = candidates[fits]
            of[found], factor[found], residual[found] = lead[fits], ratio[fits], distance[fits]
    for _ in _WIDTHS:  # what a row was found to repeat may itself repeat another
        chained = np.flatnonzero((of >= 0) & (of != of[of]))
        factor[chained], residual[chained] = (
            factor[chained] * factor[of[chained]],
            residual[chained] + residual[of[chained]],
        )
        of[chained] = of[of[chained]]
    return Multiples(of, factor, residual)


def _compared(
    rows: Rows,
    index: IntArray,
    lead: IntArray,
    norm: FloatArray,
    rounding: float,
    tolerance: float,
    smallest: float,
) -> tuple[np.ndarray, FloatArray, FloatArray]:
    """Whether row index[i] is a multiple of row lead[i], by which factor, and how far it is off."""
    fits, ratio, distance = np.zeros(len(index), bool), np.ones(len(index)), np.zeros(len(index))
    for part in _chunks(rows, len(index)):
        mine, my_parts = rows(index[part])
        other, other_parts = rows(lead[part])
        scale, other_scale = norm[index[part]][:, None], norm[lead[part]][:, None]
        mine, my_parts, other, other_parts = (
            mine / scale,
            my_parts / scale,
            other / other_scale,
            other_parts / other_scale,
        )
        factor = np.einsum("ij,ij->i", mine, other)[:, None]
        off = np.abs(mine - factor * other)
        allowed = rounding * (my_parts + np.abs(factor) * other_parts) + smallest * (1 / scale + 1 / other_scale)
        distance[part] = np.linalg.norm(off, axis=1)
        fits[part] = (off <= allowed).all(axis=1) | (distance[part] <= tolerance)
        ratio[part] = (factor * scale / other_scale)[:, 0]
    return fits, ratio, distance


def _chunks(rows: Rows, n: int) -> list[IntArray]:
    if n == 0:
        return []
    width = max(1, rows(np.zeros(1, np.int64))[0].shape[1])
    step = max(1, _CHUNK_ENTRIES // width)
    return [np.arange(start, min(start + step, n)) for start in range(0, n, step)]
