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

import numpy as np

from nfn_cli.match.fingerprint_moments import Moments, entries_of, moments
from nfn_cli.match.fingerprint_plan import Array, FingerprintPlan, Slots, TensorPlan, uniform
from nfn_cli.match.fingerprint_scales import ScalePlan
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
_GRAM_PRODUCTS = 1 << 27
_GRAM_ENTRIES = 1 << 19  # at a time


def statistics(plan: FingerprintPlan, tensors: Mapping[str, Array]) -> FloatArray:
    """(networks, number of statistics), the same along an orbit up to rounding.

    Args:
        tensors: name -> (networks, *shape).
    """
    count = len(tensors[plan.tensors[0].name]) if plan.tensors else 0
    read = moments(plan, tensors)
    scales = ScalePlan(plan).solve(read, count)
    found = [np.zeros((count, 0))]
    descriptors = np.ones((count, plan.units + 1))
    for turn in range(_ROUNDS):
        parts = _Round(plan, descriptors)
        for number, (tensor, its) in enumerate(zip(plan.tensors, read, strict=True)):
            ends = scales.factor(tensor.rows), scales.factor(tensor.columns)
            found += parts.of_tensor(number, its, (np.square(ends[0]), np.square(ends[1])), last=turn == _ROUNDS - 1)
            if turn == 1 and _has_gram(tensor):
                found += parts.of_gram(tensor, _scaled_entries(tensor, tensors[tensor.name], *ends))
        found += parts.of_units()
        descriptors = parts.next_descriptors()
    return np.concatenate(found, axis=1)


class _Round:
    """One round: sums weighted by the descriptors that the round before left."""

    def __init__(self, plan: FingerprintPlan, descriptors: FloatArray) -> None:
        self.plan, self.descriptors = plan, descriptors
        self.sums = np.zeros((_CONTRASTS, *descriptors.shape))
        self.touches, self.variances = np.zeros(descriptors.shape[1]), np.zeros((_CONTRASTS, descriptors.shape[1]))

    def of_tensor(
        self, number: int, its: Moments, ends: tuple[FloatArray, FloatArray], last: bool
    ) -> Iterator[FloatArray]:
        """Of the number-th tensor: its moments, and by what the squares of its rows and of its columns are multiplied."""
        tensor = its.plan
        rows, columns = self._weights(tensor.rows), self._weights(tensor.columns)
        weighted = ends[0] * rows, ends[1] * columns
        by_row = ends[0] * its.positioned.by_row(weighted[1])
        by_column = ends[1] * its.positioned.by_column(weighted[0])
        size = math.prod(tensor.matrix)
        nothing = _NOTHING * max(len(tensor.rows), len(tensor.columns))  # of the sum of all
        yield np.log(((rows * by_row).sum(1, keepdims=True) + nothing) / size) * _certainty(size)
        if last:
            fourth = ends[0] * weighted[0] * its.fourth.by_row(ends[1] * weighted[1])
            mean = fourth.sum(1, keepdims=True) / size
            yield np.log(np.sqrt(mean) + nothing / size) * _certainty(size) / 2
        for side, (slots, sums) in enumerate(((tensor.rows, by_row), (tensor.columns, by_column))):
            if len(slots) > 1:
                relative = _relative(sums, nothing / len(slots))
                yield from _by_slot(relative, slots, size // len(slots))
                if slots.moves:
                    self._tell(slots, relative, size // len(slots), 2 * number + side)
        if its.signed is not None and last:
            signed_rows = ends[0] * its.signed.by_row(weighted[1])
            signed_columns = ends[1] * its.signed.by_column(weighted[0])
            both = ((tensor.rows, signed_rows, by_row), (tensor.columns, signed_columns, by_column))
            for slots, signed, sums in both:
                share = signed / (sums + _FLOOR * sums.mean(axis=1, keepdims=True) + nothing / len(slots))
                yield from _by_slot(share, slots, size // len(slots))

    def of_gram(self, tensor: TensorPlan, entries: FloatArray) -> Iterator[FloatArray]:
        """Squares of the products of rows, (networks, A, B·K) -> those of every row with all others."""
        count, a, size = entries.shape
        weights, by_row = self._weights(tensor.rows)[:, :, None], np.empty((count, a))
        step = max(1, _GRAM_ENTRIES // max(1, count * a))
        for start in range(0, a, step):
            gram = np.matmul(entries[:, start : start + step], entries.swapaxes(1, 2))
            gram *= gram
            by_row[:, start : start + step] = np.matmul(gram, weights)[:, :, 0]
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


def _has_gram(plan: TensorPlan) -> bool:
    groups, a, b, k = plan.matrix
    return groups == 1 and a > 1 and b * k > 1 and plan.periods is None and a * a * b * k <= _GRAM_PRODUCTS


def _scaled_entries(plan: TensorPlan, array: Array, rows: FloatArray, columns: FloatArray) -> FloatArray:
    _, a, b, k = plan.matrix
    entries = entries_of(plan, array.reshape(len(array), *plan.shape), slice(0, a))
    entries *= rows[:, :, None, None]
    entries *= columns[:, None, :, None]
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
