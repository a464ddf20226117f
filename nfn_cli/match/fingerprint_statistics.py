"""match/fingerprint_statistics.py: numbers that the group leaves alone, of many networks of one graph at once. No file, no torch.

Units get descriptors, refined from round to round: what the squares around a unit add up to in each tensor, weighted by
the descriptors of the units at their other ends (colour refinement with numbers in place of colours). Positions that stay
(inputs, classes, kernel positions) enter with fixed weights of their own. The statistics are the logarithms of these sums,
those of units in order of size, alone and in contrasts of tensors; where no sign acts, shares of signed squares; and Gram
matrices of rows, which feel signs that signs cannot hide.
Every number is divided by what it would vary by, were the weights drawn at random, and is continuous in the weights: a unit
that does nothing adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nfn_cli.match.fingerprint_plan import Array, FingerprintPlan, Slots, TensorPlan, uniform
from nfn_cli.match.fingerprint_scales import ScalePlan, Scales, Squares
from nfn_cli.symmetry.axis import mix
from nfn_cli.symmetry.element import FloatArray

_ROUNDS = 3
_CONTRASTS = 3
_VALUES = 16  # numbers that stand for the slots of one axis
_FLOOR = 1e-3  # of the mean: smaller sums look alike, for half precision knows little of them
# Sum of squares of a balanced slot that counts for nothing. Where weights of order 1 meet weights that half precision rounds
# to 0 (below 3e-8 each), balanced sums come to 1e-7: what vanishes must be far below, or copies would differ.
_NOTHING = 1e-5
_SURE = 64.0  # no statistic is held for more certain than one of _SURE² entries
_PIECE_ENTRIES = 1 << 20
_GRAM_PRODUCTS = 1 << 27


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of one tensor of many networks, (networks, groups, A, B) each, summed over all other entries.

    `positioned` are squares and `signed` signed squares, weighted by position; `fourth` are fourth powers.
    """

    squares: FloatArray
    positioned: FloatArray
    signed: FloatArray | None
    fourth: FloatArray

    def scaled(self, rows: FloatArray, columns: FloatArray) -> _Moments:
        """With every entry multiplied by its row's and its column's factor."""
        count, groups, a, b = self.squares.shape
        factor = rows.reshape(count, groups, a, 1) * columns.reshape(count, groups, 1, b)
        factor *= factor
        signed = None if self.signed is None else self.signed * factor
        return _Moments(self.squares * factor, self.positioned * factor, signed, self.fourth * factor * factor)


def statistics(plan: FingerprintPlan, tensors: Mapping[str, Array]) -> FloatArray:
    """(networks, number of statistics), the same along an orbit up to rounding.

    Args:
        tensors: name -> (networks, *shape).
    """
    read = [_moments(tensor, tensors[tensor.name]) for tensor in plan.tensors]
    squares = [Squares(t, m.squares) for t, m in zip(plan.tensors, read, strict=True)]
    scales = ScalePlan(plan).solve(squares)
    ends = [(scales.factor(t.rows), scales.factor(t.columns)) for t in plan.tensors]
    scaled = [m.scaled(*factors) for m, factors in zip(read, ends, strict=True)]
    count = len(read[0].squares) if read else 0
    found = [np.zeros((count, 0))]
    descriptors = np.ones((count, plan.units + 1))
    for turn in range(_ROUNDS):
        parts = _Round(plan, descriptors)
        for number, (tensor, moments) in enumerate(zip(plan.tensors, scaled, strict=True)):
            found += parts.of_tensor(number, tensor, moments, last=turn == _ROUNDS - 1)
            if turn == 1 and _has_gram(tensor):
                entries = _scaled_entries(tensor, tensors[tensor.name], scales)
                found += parts.of_gram(tensor, entries)
        found += parts.of_units()
        descriptors = parts.next_descriptors()
    return np.concatenate(found, axis=1)


class _Round:
    """One round: sums weighted by the descriptors that the round before left."""

    def __init__(self, plan: FingerprintPlan, descriptors: FloatArray) -> None:
        self.plan, self.descriptors = plan, descriptors
        self.sums = np.zeros((_CONTRASTS, *descriptors.shape))
        self.touches, self.variances = np.zeros(descriptors.shape[1]), np.zeros((_CONTRASTS, descriptors.shape[1]))

    def of_tensor(self, number: int, tensor: TensorPlan, moments: _Moments, last: bool) -> Iterator[FloatArray]:
        count, groups, a, b = moments.squares.shape
        rows, columns = self._weights(tensor.rows), self._weights(tensor.columns)
        weights = rows.reshape(count, groups, a, 1), columns.reshape(count, groups, 1, b)
        by_row = np.matmul(moments.positioned, weights[1].swapaxes(2, 3)).reshape(count, -1)
        by_column = np.matmul(weights[0].swapaxes(2, 3), moments.positioned).reshape(count, -1)
        size = groups * a * b * len(tensor.spread)
        nothing = _NOTHING * max(len(tensor.rows), len(tensor.columns))  # of the sum of all
        yield np.log(((rows * by_row).sum(1, keepdims=True) + nothing) / size) * _certainty(size)
        if last:
            fourth = np.matmul(weights[0].swapaxes(2, 3), np.matmul(moments.fourth, weights[1].swapaxes(2, 3)))
            mean = fourth.reshape(count, groups).sum(1, keepdims=True) / size
            yield np.log(np.sqrt(mean) + nothing / size) * _certainty(size) / 2
        for side, (slots, sums) in enumerate(((tensor.rows, by_row), (tensor.columns, by_column))):
            if len(slots) > 1:
                relative = _relative(sums, nothing / len(slots))
                yield from _by_slot(relative, slots, size // len(slots))
                if slots.moves:
                    self._tell(slots, relative, size // len(slots), 2 * number + side)
        if moments.signed is not None and last:
            signed_rows = np.matmul(moments.signed, weights[1].swapaxes(2, 3)).reshape(count, -1)
            signed_columns = np.matmul(weights[0].swapaxes(2, 3), moments.signed).reshape(count, -1)
            ends = ((tensor.rows, signed_rows, by_row), (tensor.columns, signed_columns, by_column))
            for slots, signed, sums in ends:
                share = signed / (sums + _FLOOR * sums.mean(axis=1, keepdims=True) + nothing / len(slots))
                yield from _by_slot(share, slots, size // len(slots))

    def of_gram(self, tensor: TensorPlan, entries: FloatArray) -> Iterator[FloatArray]:
        """Squares of the products of rows, (networks, A, B·K) -> those of every row with all others."""
        gram = np.matmul(entries, entries.swapaxes(1, 2))
        gram *= gram
        by_row = np.matmul(gram, self._weights(tensor.rows)[:, :, None])[:, :, 0]
        size = entries.shape[2]
        nothing = (_NOTHING * max(1.0, len(tensor.columns) / len(tensor.rows))) ** 2
        mean = by_row.mean(axis=1, keepdims=True)
        yield np.log((mean + nothing) / size) * _certainty(size * len(tensor.rows)) / 4
        yield from _by_slot(_relative(by_row, nothing) / 2, tensor.rows, size)

    def of_units(self) -> Iterator[FloatArray]:
        """What tensors say of one and the same unit, in contrasts of them, in order of size within each set."""
        for start, size in self.plan.unit_sets:
            units = slice(start, start + size)
            if self.touches[start] > 1:
                for sums, variances in zip(self.sums, self.variances, strict=True):
                    certainty = np.minimum(1 / np.sqrt(variances[units]), _SURE) * math.sqrt(max(1, size // _VALUES))
                    yield _pooled(np.sort(sums[:, units] * np.minimum(certainty, _SURE), axis=1))

    def next_descriptors(self) -> FloatArray:
        """(networks, units + 1) between 0 and 2, bounded lest one unit drown all others."""
        return np.asarray(2 / (1 + np.exp(-self.sums[0] / np.sqrt(np.maximum(self.touches, 1)))))

    def _weights(self, slots: Slots) -> FloatArray:
        return np.asarray(slots.fixed * np.where(slots.unit < self.plan.units, self.descriptors[:, slots.unit], 1.0))

    def _tell(self, slots: Slots, relative: FloatArray, entries: int, number: int) -> None:
        """Note the logarithms of some tensor's sums at the units that move its slots."""
        moved = np.flatnonzero(slots.unit < self.plan.units)
        units = slots.unit[moved]
        np.add.at(self.touches, units, 1)
        # the first adds all up, the others set some against others
        weights = np.where(np.arange(_CONTRASTS) > 0, 4 * uniform(mix(np.arange(_CONTRASTS), number, 7)) - 2, 1.0)
        for sums, variances, weight in zip(self.sums, self.variances, weights, strict=True):
            np.add.at(variances, units, weight * weight / entries)
            if len(np.unique(units)) == len(units):
                sums[:, units] += weight * relative[:, moved]
            else:
                np.add.at(sums.T, units, weight * relative[:, moved].T)


def _moments(plan: TensorPlan, array: Array) -> _Moments:
    count, (groups, a, b, k) = len(array), plan.matrix
    out = [np.empty((count, groups, a, b)) for _ in range(3 if plan.signed else 4)]
    step = max(1, _PIECE_ENTRIES // max(1, a * groups * b * k))
    for start in range(0, count, step):
        piece = slice(start, start + step)
        entries = _entries(plan, array[piece]).reshape(-1, groups, a, b, k)
        squares = entries * entries
        out[0][piece] = squares.sum(axis=-1)
        out[1][piece] = squares @ plan.spread
        out[2][piece] = np.square(squares).sum(axis=-1)
        if not plan.signed:
            out[3][piece] = (squares * np.sign(entries)) @ plan.spread
    return _Moments(out[0], out[1], None if plan.signed else out[3], out[2])


def _entries(plan: TensorPlan, array: Array) -> FloatArray:
    """(networks, *shape) -> the same in float64, ends first; phases turned into what phase counts leave alone."""
    array = array.reshape(len(array), *plan.shape)
    wide = array.transpose(0, *(axis + 1 for axis in plan.order)).astype(np.float64) + plan.offset
    if plan.periods is not None:
        turns = plan.periods > 0
        angle = 2 * np.pi * wide[:, turns] / plan.periods[turns].reshape(-1, *(1,) * (wide.ndim - 2))
        wide[:, turns] = 0.75 + 0.25 * np.cos(angle)  # far from 0, whose logarithm would be noise
    return np.asarray(wide)


def _has_gram(plan: TensorPlan) -> bool:
    groups, a, b, k = plan.matrix
    return groups == 1 and a > 1 and b * k > 1 and plan.periods is None and a * a * b * k <= _GRAM_PRODUCTS


def _scaled_entries(plan: TensorPlan, array: Array, scales: Scales) -> FloatArray:
    _, a, b, k = plan.matrix
    entries = _entries(plan, array).reshape(-1, a, b, k)
    entries *= scales.factor(plan.rows)[:, :, None, None]
    entries *= scales.factor(plan.columns)[:, None, :, None]
    return entries.reshape(len(entries), a, b * k)


def _by_slot(values: FloatArray, slots: Slots, entries: int) -> Iterator[FloatArray]:
    """Those of slots that stay by place, the others in order of size; means of neighbours where there are many."""
    stay = slots.fixed != 1.0
    for part in (values[:, stay], np.sort(values[:, ~stay], axis=1)):
        if part.shape[1]:
            yield _pooled(part) * _certainty(entries * max(1, part.shape[1] // _VALUES))


def _pooled(values: FloatArray) -> FloatArray:
    size = values.shape[1]
    if size <= _VALUES:
        return values
    starts = np.arange(_VALUES) * size // _VALUES
    return np.asarray(np.add.reduceat(values, starts, axis=1) / np.diff(np.append(starts, size)))


def _relative(sums: FloatArray, nothing: float) -> FloatArray:
    """(networks, slots) sums over their mean, in logarithms; 0 where all are nothing."""
    mean = sums.mean(axis=1, keepdims=True)
    return np.asarray(np.log((sums + _FLOOR * mean + nothing) / (mean + nothing)))


def _certainty(entries: int) -> float:
    """One over how far the logarithm of a sum of so many random squares strays, about."""
    return min(math.sqrt(entries), _SURE)
