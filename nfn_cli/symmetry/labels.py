"""symmetry/labels.py: the labels that tell apart the slots one unit has in one axis, once all of a graph is known.

Axes start with labels of their own (operands of a concatenation, positions of a flattening). Two things come to be known
later: which part of an axis a slice took, and which axes must agree slot by slot because they are added or multiplied.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nfn_cli.symmetry.axis import Axis, HashArray, mix
from nfn_cli.symmetry.system import Incidence, System


class Labels:
    """Axes and incidences of a system with their labels. Axes that hold the very same label array keep one in common."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._marks = _marks(system)
        self._made: dict[int, Axis] = {}
        self._of_label: dict[int, HashArray] = {}
        self._originals = list({id(a): a for a in (*system.axes, *(i.axis for i in system.incidences))}.values())

    @property
    def axes(self) -> list[Axis]:
        """Each axis once; only those that a tensor or value really has."""
        return [self._labelled(axis) for axis in self._originals]

    @property
    def incidences(self) -> list[Incidence]:
        return [replace(incidence, axis=self._labelled(incidence.axis)) for incidence in self._system.incidences]

    def _labelled(self, axis: Axis) -> Axis:
        if id(axis) not in self._made:
            label = self._of_label.get(id(axis.label), axis.label)
            self._made[id(axis)] = replace(
                axis, label=mix(label, self._marks[axis.unit]) if len(self._marks) else label
            )
        return self._made[id(axis)]

    def shared_slot_by_slot(self) -> list[Axis]:
        """Let axes that are added or multiplied take over each other's labels.

        Their slots are tied one to one, so what tells two slots of a unit apart in one of them must do so in all.
        """
        root: dict[int, int] = {}

        def find(key: int) -> int:
            while root.setdefault(key, key) != key:
                root[key] = root[root[key]]
                key = root[key]
            return key

        for group in self._system.slotwise:
            for label in group[1:]:
                root[find(id(label))] = find(id(group[0]))
        members: dict[int, list[Axis]] = {}
        seen: set[tuple[int, int]] = set()
        for axis in self._originals:
            key = (id(axis.label), id(axis.unit))
            if key not in seen:
                seen.add(key)
                members.setdefault(find(id(axis.label)), []).append(axis)
        for together in members.values():
            if len({len(axis) for axis in together}) > 1 or len(together) == 1:
                continue
            whole = mix(*(self._labelled(axis).label for axis in together))
            for axis in together:
                self._of_label[id(axis.label)] = whole
        self._made = {}
        return self.axes


def _marks(system: System) -> HashArray:
    """By node of unit, what slices say about it; empty where none says anything."""
    if not system.distinctions:
        return np.zeros(0, np.uint64)
    marks = np.zeros(system.counts["unit"], np.uint64)
    for units, mark in system.distinctions:
        marks[units] = mix(marks[units], mark)
    return marks
