"""canonical/reduction/linear.py: slots that are linear combinations of others, where they are linear in what one layer reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.reduction.affine import Affine
from nfn_cli.canonical.reduction.precision import Precision
from nfn_cli.canonical.reduction.reading import Mix, Reading, Terms
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray

_LARGEST_SUM = 1e4  # coefficients beyond this would enlarge rounding more than the check at the end allows
_SOLVING = 256 * float(np.finfo(np.float64).eps)  # what least squares may lose for each row of the basis


@dataclass(frozen=True, eq=False)
class Rows:
    """What the functions of one layer's outputs are made of: function number first + j is row lead[j] of the weight.

    Attributes:
        seen: how that layer reads its inputs; rows are over the slots that stand for themselves.
    """

    first: int
    lead: IntArray
    reading: Reading
    seen: Terms

    def of(self, kind: IntArray) -> FloatArray:
        return self.reading.rows(self.seen, self.lead[kind - self.first])[0]


def with_combinations(
    seen: Terms, x: Affine, sources: list[Rows], absorbs: bool, kept: BoolArray, precision: Precision
) -> Terms:
    """Slots that are combinations of others no longer stand for themselves.

    Args:
        sources: layers whose outputs the slots of `x` may be, untouched by anything but affine maps.
        absorbs: as in `terms`; if not, the constants have to combine in the same way.
    """
    for source in sources:
        at = np.flatnonzero(
            (seen.stand == np.arange(len(x))) & (x.kind >= source.first) & (x.kind < source.first + len(source.lead))
        )
        if len(at) > 1:
            seen = _combined(seen, x, source, at, absorbs, kept, precision)
    return seen


def _combined(
    seen: Terms, x: Affine, source: Rows, at: IntArray, absorbs: bool, kept: BoolArray, precision: Precision
) -> Terms:
    rows = source.of(x.kind[at]) * x.factor[at][:, None]
    if not absorbs:
        rows = np.concatenate([rows, x.offset[at][:, None]], axis=1)
    basis = _independent(rows, kept[at], precision.rounding)
    others = np.setdiff1d(np.flatnonzero(~kept[at]), basis)
    if not len(others) or not len(basis):
        return seen
    coefficients = np.linalg.lstsq(rows[basis].T, rows[others].T, rcond=None)[0].T
    off = np.abs(rows[others] - coefficients @ rows[basis])
    size = np.abs(rows[others]) + np.abs(coefficients) @ np.abs(rows[basis])
    slack = precision.rounding + _SOLVING * len(basis)
    good = (off <= slack * size).all(axis=1) & (np.abs(coefficients).sum(axis=1) < _LARGEST_SUM)
    if not good.any():
        return seen
    gone, stay, coefficients = at[others[good]], at[basis], coefficients[good]
    stand, rest = seen.stand.copy(), seen.rest.copy()
    stand[gone] = -2
    if absorbs:
        rest[gone] = x.offset[gone] - coefficients @ x.offset[stay]
        behind = np.flatnonzero(np.isin(seen.stand, gone) & (seen.stand != np.arange(len(x))))
        rest[behind] += seen.ratio[behind] * rest[seen.stand[behind]]
    return Terms(stand, seen.ratio, rest, (*seen.mixes, Mix(gone, stay, coefficients)))


def _independent(rows: FloatArray, kept: BoolArray, rounding: float) -> IntArray:
    """Rows that span all of them: kept ones first, then what is farthest from those chosen, as pivoting does."""
    from scipy.linalg import qr

    size = np.linalg.norm(rows, axis=1)
    scaled = rows / np.where(size > 0, size, 1.0)[:, None]
    chosen = np.zeros(0, np.int64)
    left = scaled
    for part in (np.flatnonzero(kept), np.flatnonzero(~kept)):
        if not len(part):
            continue
        _, triangle, pivot = qr(left[part].T, mode="economic", pivoting=True)
        steps = np.abs(np.diag(triangle))
        found = part[pivot[: int((steps > rounding * np.sqrt(rows.shape[1])).sum())]]
        chosen = np.concatenate([chosen, found])
        if len(found):
            span, _ = np.linalg.qr(scaled[chosen].T)
            left = scaled - (scaled @ span) @ span.T
    return np.sort(chosen)
