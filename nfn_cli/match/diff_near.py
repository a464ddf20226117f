"""match/diff_near.py: units that nearly repeat another of the same network: a split that training went on from. Moves no unit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from nfn_cli.match.diff_distance import without_slots
from nfn_cli.match.frame import Wide, rows_of
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.solve import Action, Symmetry

# What feeds two units is nearly the same if it differs by less than this part of its norm; of unrelated units it is 1.4.
_NEAR = 0.1

# More signs a unit than this are not tried in all combinations.
_COMBINED = 4

Key = tuple[tuple[int, ...], tuple[int, ...]]  # the scale families and the sign families that a slot carries


@dataclass(frozen=True, eq=False)
class _Repeat:
    """Flat numbers of a unit and of the one it nearly repeats, and by what it is larger in each scale and sign family."""

    unit: int
    of: int
    scales: dict[int, float]
    signs: tuple[float, ...]


def read_once(symmetry: Symmetry, tensors: Wide, asked: BoolArray) -> tuple[Wide, IntArray]:
    """The weights as if what reads a near repeat read the unit it repeats; and (units,) that unit, −1 for all else.

    What feeds the units is compared up to the scales and signs that the group allows. What a repeat has itself is set to 0.

    Args:
        asked: (units,) which units to look at.
    """
    found, out = np.full(symmetry.units, -1, np.int64), dict(tensors)
    for number, unit_set in enumerate(symmetry.unit_sets):
        units = np.flatnonzero(asked[unit_set.start : unit_set.start + unit_set.size])
        if len(units) < 2 or not unit_set.permutable:
            continue
        for repeat in _repeats(symmetry, tensors, number, units):
            found[repeat.unit] = repeat.of
            _share(symmetry, out, number, repeat)
    for name, actions in symmetry.actions.items():
        for action in actions:
            out[name] = without_slots(out[name], action, found < 0)
    return out, found


def _repeats(symmetry: Symmetry, tensors: Wide, number: int, units: IntArray) -> Iterator[_Repeat]:
    """Each unit that nearly repeats an earlier one, which repeats none."""
    unit_set, norms = symmetry.unit_sets[number], {}
    parts: list[tuple[Key, FloatArray, FloatArray]] = []
    for key, rows in _feeding(symmetry, tensors, number).items():
        rows = rows[units]
        if key[0]:
            norms[key[0]] = lengths = np.sqrt(np.square(rows).sum(axis=1))
            rows = np.divide(rows, lengths[:, None], out=np.zeros_like(rows), where=lengths[:, None] > 0)
        squares = np.square(rows).sum(axis=1)
        parts.append((key, rows @ rows.T, squares[:, None] + squares))
    combined = min(_COMBINED, unit_set.families["sign"])
    choices = list(itertools.product((1.0, -1.0), repeat=combined))
    each = np.stack([_apart(parts, signs, len(units)) for signs in choices])
    best, apart = each.argmin(axis=0), each.min(axis=0)
    kept: list[int] = []
    for row in range(len(units)):
        column = min(kept, key=lambda other: float(apart[row, other]), default=row)
        if column == row or not apart[row, column] < _NEAR:
            kept.append(row)
            continue
        scales = {key[0]: float(n[row] / n[column]) for key, n in norms.items() if len(key) == 1 and n[column]}
        yield _Repeat(
            unit_set.start + int(units[row]), unit_set.start + int(units[column]), scales, choices[best[row, column]]
        )


def _apart(parts: Sequence[tuple[Key, FloatArray, FloatArray]], signs: Sequence[float], count: int) -> FloatArray:
    """(count, count) the largest relative difference of a part under these signs; infinite where nothing feeds the units."""
    apart = np.full((count, count), 0.0 if parts else np.inf)
    for (_, families), products, sums in parts:
        sign = prod(signs[family] for family in families if family < len(signs))
        part = np.divide(2 * (sums - 2 * sign * products), sums, out=np.zeros_like(sums), where=sums > 0)
        apart = np.maximum(apart, np.sqrt(part.clip(0.0)))
    return apart


def _feeding(symmetry: Symmetry, tensors: Wide, number: int) -> dict[Key, FloatArray]:
    """What makes the units of a set, (n, entries) for each scale and sign that it carries."""
    unit_set = symmetry.unit_sets[number]
    parts: dict[Key, list[FloatArray]] = {}
    for name, actions in symmetry.actions.items():
        for action in actions:
            # a running variance goes with what it is measured on
            slots = _slots(symmetry, action, number) if action.exponent == 1 and action.groups == 1 else None
            if slots is not None and len(slots) == unit_set.size:
                rows = rows_of(tensors[name], action)[slots]
                parts.setdefault(_carried(symmetry, action, number, int(slots[0])), []).append(rows)
    return {key: np.concatenate(rows, axis=1) for key, rows in parts.items()}


def _share(symmetry: Symmetry, tensors: Wide, number: int, repeat: _Repeat) -> None:
    """Add what reads the repeat to what reads the other, times what the repeat says more loudly."""
    for name, actions in symmetry.actions.items():
        for action in actions:
            if action.exponent >= 0 or action.groups > 1:
                continue
            ours, theirs = (np.flatnonzero(action.unit == unit) for unit in (repeat.unit, repeat.of))
            if len(ours) != len(theirs) or not len(ours):
                continue
            scales, signs = _carried(symmetry, action, number, int(ours[0]))
            powers = action.power[:, ours[0]].tolist()
            factor = prod(repeat.scales.get(f, 1.0) ** power for f, power in zip(scales, powers, strict=False))
            factor *= prod(repeat.signs[f] for f in signs if f < len(repeat.signs))
            array = np.moveaxis(tensors[name].copy(), action.dim, 0)
            array[theirs] += factor * array[ours]
            tensors[name] = np.moveaxis(array, 0, action.dim)


def _slots(symmetry: Symmetry, action: Action, number: int) -> IntArray:
    """Where the units of the set are on the action's axis, in their order."""
    unit_set = symmetry.unit_sets[number]
    mine = np.flatnonzero((action.unit >= unit_set.start) & (action.unit < unit_set.start + unit_set.size))
    return np.asarray(mine[np.argsort(action.unit[mine], kind="stable")])


def _carried(symmetry: Symmetry, action: Action, number: int, slot: int) -> Key:
    """Which scale families and which sign families of the set a slot carries; signs of all actions on the axis count."""
    unit_set = symmetry.unit_sets[number]

    def families(kind: str, entries: IntArray) -> tuple[int, ...]:
        first, size = symmetry.starts[kind][number], max(1, unit_set.size)
        found = [(int(entry) - first) // size for entry in entries if entry >= 0]
        return tuple(family for family in sorted(found) if 0 <= family < unit_set.families[kind])

    signed = [a.sign[:, slot] for a in symmetry.actions[action.tensor] if a.dim == action.dim and a.signed]
    scales = families("scale", action.scale[:, slot]) if action.exponent else ()
    return scales, families("sign", np.concatenate(signed)) if signed else ()
