"""match/diff.py: how two networks differ, unit by unit, after the best group element brought one to the other.

Both are reduced first (dead units and repeats set aside), laid into one network that has room for both, and aligned in the balanced
frame; widths may differ. Knows alignment; no file, no command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.alignment import aligned
from nfn_cli.match.common_reading import common_reading
from nfn_cli.match.comparison import compared, even_weights
from nfn_cli.match.diff_distance import Distances, distances
from nfn_cli.match.diff_model import Difference, TensorDifference
from nfn_cli.match.diff_near import read_once
from nfn_cli.match.diff_pair import WidePair, paired_up_to_widths, side_by_side
from nfn_cli.match.diff_reduction import Side, as_given, with_idle, without_redundancy
from nfn_cli.match.diff_scales import settled_scales
from nfn_cli.match.diff_units import Matched, set_difference
from nfn_cli.match.diff_widths import lent_widths
from nfn_cli.match.equivalent import Pair, default_tolerance, equivalent
from nfn_cli.match.frame import Wide
from nfn_cli.match.pairing import partners
from nfn_cli.symmetry.element import to_flat
from nfn_cli.symmetry.relations import BoolArray

# Sweeps that gain less than this part are slow gains of scales between unrelated networks.
_GAIN = 1e-3


def diff(
    left: Checkpoint,
    left_networks: Sequence[Network],
    right: Checkpoint,
    right_networks: Sequence[Network],
    *,
    tolerance: float | None = None,
) -> Difference:
    """Match the units of two networks of one architecture up to widths, and say what became of each.

    Args:
        tolerance: the residual of a unit that counts as none; default: what rounding to the element types does.

    Raises:
        Refused: more than widths differs, or units cannot be matched partially where they do (code
            "different-architectures"), or weights are not finite.
        WrongUsage: the tolerance is not a positive number.
    """
    if tolerance is not None and not tolerance > 0:
        raise WrongUsage("the tolerance must be a positive number", code="wrong-usage")
    reading = common_reading(left_networks, right_networks)
    given = as_given(left, reading.left), as_given(right, reading.right)
    whole = paired_up_to_widths(*given)
    allowed = default_tolerance(whole) if tolerance is None else tolerance
    sides, pair, notes = _comparable(given)
    matched, found = _matched(pair, allowed)
    unit_sets = tuple(
        set_difference(number, unit_set, matched, sides) for number, unit_set in enumerate(pair.symmetry.unit_sets)
    )
    tensors = _tensors(given, whole, found)
    agree = all(unit.status in ("same", "dead") for unit_set in unit_sets for unit in unit_set.units)
    agree = agree and all(tensor.residual <= allowed for tensor in tensors)
    if agree and (sides[0].redundant or sides[1].redundant):
        # repeated units may share out what reads them in any way, and dead ones may be anything
        agree = equivalent(left, reading.left, right, reading.right, tolerance=tolerance).equivalent
    return Difference(agree, found.overall, allowed, unit_sets, tensors, (*notes, *reading.note))


def _comparable(given: tuple[Side, Side]) -> tuple[tuple[Side, Side], WidePair, tuple[str, ...]]:
    """Both without dead and repeated units; as they are where that cannot be, and why."""
    try:
        with np.errstate(all="ignore"):
            sides = without_redundancy(given[0]), without_redundancy(given[1])
        return sides, side_by_side(*sides), ()
    except (Refused, AnswerIsNo) as error:
        sides = with_idle(given[0]), with_idle(given[1])
        pair = side_by_side(*sides)  # if this is refused too, the reason counts
        return sides, pair, (f"repeated units were not looked for: {error.what}",)


def _matched(pair: WidePair, allowed: float) -> tuple[Matched, Distances]:
    symmetry = pair.symmetry
    left, right = pair.frames()
    uneven = _in_uneven_sets(pair)
    (ours, near), (theirs, other_near) = (
        read_once(symmetry, frame.tensors, (numbers >= 0) & ~idle & uneven)
        for frame, numbers, idle in zip((left, right), pair.numbers, pair.idle, strict=True)
    )
    left, right = replace(left, tensors=ours), replace(right, tensors=theirs)
    weights = even_weights(left.tensors, right.tensors)

    def enough(ours: Wide) -> bool:
        return compared(symmetry, ours, right.tensors).residual <= allowed / 4

    found = aligned(symmetry, left, right, weights, enough=enough, gain=_GAIN)
    permutation = to_flat(symmetry, found.element).permutation
    numbers = pair.numbers[0][permutation]
    near = np.append(np.argsort(permutation), -1)[near[permutation]]
    left_out = pair.idle[0][permutation] | pair.idle[1] | (near >= 0) | (other_near >= 0)
    shared = (numbers >= 0) & (pair.numbers[1] >= 0) & ~left_out
    apart = distances(symmetry, found.ours, right.tensors, shared)
    if (apart.residual > allowed).any():
        settled = settled_scales(symmetry, found.ours, right.tensors, weights, shared, allowed)
        # of two choices of scales, the one under which more is the same, else the closer one
        choices = apart, distances(symmetry, settled, right.tensors, shared)
        apart = min(choices, key=lambda choice: (int((choice.residual > allowed).sum()), choice.overall))
    return Matched(numbers, pair.numbers[1], (near, other_near), apart.residual <= allowed, apart), apart


def _in_uneven_sets(pair: WidePair) -> BoolArray:
    """(units,) units of sets of which one network has more than the other: there some may be parts of one."""
    here, there = ((numbers >= 0) & ~idle for numbers, idle in zip(pair.numbers, pair.idle, strict=True))
    out = np.zeros(pair.symmetry.units, bool)
    for unit_set in pair.symmetry.unit_sets:
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        out[span] = here[span].sum() != there[span].sum()
    return out


def _tensors(given: tuple[Side, Side], pair: Pair, found: Distances) -> tuple[TensorDifference, ...]:
    left, right = given
    there = partners(left.networks, lent_widths(right.networks, left.networks))
    return tuple(
        TensorDifference(
            (name, there[name].name),
            (tuple(pair.left.tensors[name].shape), tuple(pair.right.tensors[name].shape)),
            *found.by_tensor[name],
        )
        for name in pair.names
    )
