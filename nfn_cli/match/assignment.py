"""match/assignment.py: the permutation of a unit set with the largest total score, in blocks where units move in blocks.

The exact assignment of Jonker and Volgenant, as SciPy has it. Knows scores only.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray


def assigned_units(score: FloatArray, run: int, exchange: bool) -> IntArray:
    """(n, n) scores of (ours, theirs) -> (n,) ours for each of theirs; units stay together in runs of `run`, if it is not 0."""
    return assigned_in_blocks(score, run, exchange) if run else assigned(score)


def assigned(score: FloatArray) -> IntArray:
    """(n, n) scores of (ours, theirs) -> (n,) ours for each of theirs."""
    # what all partners of a unit have in common changes no choice; without it the augmenting paths are shorter
    cost = -score.T
    cost -= cost.min(axis=1, keepdims=True, initial=np.inf)
    cost -= cost.min(axis=0, initial=np.inf)
    _, ours = linear_sum_assignment(cost)
    return np.asarray(ours, np.int64)


def assigned_in_blocks(score: FloatArray, size: int, exchange: bool) -> IntArray:
    """As `assigned`, where units stay together in runs of `size`; whole runs are exchanged if `exchange`."""
    count = len(score) // size
    if not exchange:
        within = [assigned(score[b * size : (b + 1) * size, b * size : (b + 1) * size]) for b in range(count)]
        return np.asarray((np.stack(within) + np.arange(count)[:, None] * size).reshape(-1))
    cells = score.reshape(count, size, count, size).swapaxes(1, 2)  # (ours, theirs, within ours, within theirs)
    if size == 1:
        return assigned(cells[:, :, 0, 0])
    within_all = np.array([[assigned(cell) for cell in row] for row in cells])  # (ours, theirs, size)
    values = np.take_along_axis(cells, within_all[:, :, None, :], axis=2)[:, :, 0].sum(axis=2)
    blocks = assigned(values)
    return np.asarray((blocks[:, None] * size + within_all[blocks, np.arange(count)]).reshape(-1))
