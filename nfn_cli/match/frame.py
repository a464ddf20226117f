"""match/frame.py: two sets of weights side by side, each in a frame that its scales, signs and phases do not move.

Both are taken to the balanced member of their orbit first (canonical/), so that scales from 1e-3 to 1e3 become small
corrections; what is left to find is which unit stands for which. Knows symmetry and canonical forms; no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.canonical.canonicalize import CanonicalOptions, canonical_element
from nfn_cli.symmetry.action import transformed, unfolded
from nfn_cli.symmetry.element import FloatArray, GroupElement, to_flat
from nfn_cli.symmetry.solve import Action, Symmetry

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
Wide = dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Frame:
    """Weights in a frame.

    Attributes:
        tensors: float64, by name.
        element: leads from the weights as they were given to `tensors`.
    """

    tensors: Wide
    element: GroupElement


def framed(
    symmetry: Symmetry,
    tensors: Tensors,
    names: Sequence[str],
    dead: bool,
    *,
    scale: str = "balanced",
    signs: bool = True,
) -> Frame:
    """The balanced form with signs and phases settled, in no order.

    Args:
        names: which tensors there are.
        dead: set what feeds units that nothing reads to 0 first, so that it is not compared.
        scale: "none" leaves scales as they were given.
        signs: False leaves signs and phases as they were given.
    """
    wide = {name: np.asarray(tensors[name]).astype(np.float64) for name in names}
    if dead:
        wide = without_dead(symmetry, wide)
    signed = signs and bool(len(symmetry.classes["sign"]) or len(symmetry.classes["shift"]))
    element = canonical_element(symmetry, wide, CanonicalOptions(scale, sign=signed, order=False))
    flat = to_flat(symmetry, element)
    return Frame({name: transformed(wide[name], symmetry.actions.get(name, ()), flat) for name in names}, element)


def without_dead(symmetry: Symmetry, tensors: Wide) -> Wide:
    """What feeds a unit whose outgoing weights are all 0 set to 0, layer by layer towards the inputs."""
    out = dict(tensors)
    while True:
        dead = dead_units(symmetry, out)
        changed = False
        for name, actions in symmetry.actions.items():
            for action in actions:
                if action.exponent != 1:
                    continue
                mine = (action.unit >= 0) & np.append(dead, False)[action.unit]
                if mine.any():
                    cleared = _cleared(out[name], action, mine)
                    changed = changed or bool((cleared != out[name]).any())
                    out[name] = cleared
        if not changed:
            return out


def dead_units(symmetry: Symmetry, tensors: Tensors) -> np.ndarray[Any, np.dtype[np.bool_]]:
    read, used = np.zeros(symmetry.units, bool), np.zeros(symmetry.units, bool)
    for name, actions in symmetry.actions.items():
        for action in actions:
            if action.exponent < 0:
                mine = action.unit >= 0
                read[action.unit[mine]] = True
                nonzero = (rows_of(tensors[name], action) != 0).any(axis=1)
                used[action.unit[mine & nonzero]] = True
    return read & ~used


def _cleared(array: FloatArray, action: Action, slots: np.ndarray[Any, np.dtype[np.bool_]]) -> FloatArray:
    if action.groups > 1:
        keep = np.repeat((~slots).reshape(action.groups, -1), array.shape[0] // action.groups, axis=0)
        return array * keep.reshape(*keep.shape, *(1,) * (array.ndim - 2))
    return array * (~slots).reshape([-1 if axis == action.dim else 1 for axis in range(array.ndim)])


def rows_of(array: np.ndarray[Any, np.dtype[Any]], action: Action) -> FloatArray:
    """(slots of the action's axis, entries a slot)."""
    if action.groups == 1 and action.dim == 0:
        return np.asarray(array.reshape(len(array), -1))
    seen, dim = unfolded(array, action.dim, action.groups)
    moved = np.moveaxis(seen, dim, 0)
    return np.asarray(moved.reshape(moved.shape[0], -1))
