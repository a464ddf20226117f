"""match/activation_matching.py: which unit stands for which, from how alike they respond to the same inputs. Runs no network.

The assignment with the largest sum of correlations (activation matching, arXiv 2209.04836 section 3.1): correlations instead of
products, so that scales do not matter. The responses are taken where the group acts on them by scales, signs and shifts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.match.assignment import assigned_units
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Symmetry


def matched_units(symmetry: Symmetry, correlations: Mapping[int, FloatArray]) -> dict[int, IntArray]:
    """For each set that can be permuted, (n,) our unit for each of theirs.

    Args:
        correlations: number of a set -> (n, n), ours by theirs; where signs may be flipped, their absolute values.

    Raises:
        Refused: a set has none (code "cannot-evaluate").
    """
    found: dict[int, IntArray] = {}
    exchanged: dict[int, IntArray] = {}
    for number, unit_set in enumerate(symmetry.unit_sets):
        if not unit_set.permutable:
            continue
        if number not in correlations:
            raise Refused("the responses of these units cannot be seen", where=unit_set.name, code="cannot-evaluate")
        score, run = np.nan_to_num(correlations[number]), unit_set.block_size
        blocks = exchanged.get(unit_set.block_family)
        if run and blocks is not None:  # whole runs go where those of another set of the family went
            order = (blocks[:, None] * run + np.arange(run)).reshape(-1)
            found[number] = order[assigned_units(score[order], run, exchange=False)]
            continue
        found[number] = assigned_units(score, run, exchange=True)
        if run:
            exchanged[unit_set.block_family] = found[number].reshape(-1, run)[:, 0] // run
    return found
