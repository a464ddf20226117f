"""canonical/refinement.py: phases, signs and the order of units: colour refinement with numbers in place of colours.

From the fixed axes inward every unit gets a key: its weights contracted with the keys of the units they lead to. An odd
contraction decides its sign first. Units whose keys agree are told apart by what they feed; those that never separate
are automorphisms and may stand in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nfn_cli.canonical.coupling import Tensors
from nfn_cli.canonical.projection import Projector, fixed_numbers
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry
from nfn_cli.symmetry.unit_set import UnitSet

_ROUNDS = 3


@dataclass
class Refinement:
    """Mutable state of one run.

    Attributes:
        element: scales are set before; signs and shifts are filled in here; its permutation stays the identity.
        tolerance: keys closer than this (they have root mean square 1) count as equal.
        edge: how far from the upper end of its interval, in widths of it, a phase counts as at the lower end.
        phases: whether phase counts are settled too.
    """

    symmetry: Symmetry
    tensors: Tensors
    element: FlatElement
    tolerance: float
    edge: float = 0.0
    phases: bool = False
    keys: FloatArray = field(init=False)
    known: np.ndarray[tuple[int], np.dtype[np.bool_]] = field(init=False)
    decided: np.ndarray[tuple[int], np.dtype[np.bool_]] = field(init=False)
    touching: list[list[tuple[str, Action]]] = field(init=False)
    position: dict[str, int] = field(init=False)
    projector: Projector = field(init=False)

    def __post_init__(self) -> None:
        units = self.symmetry.units
        self.projector = Projector(self.tensors, self.symmetry.actions, self.element)
        self.position = {name: index for index, name in enumerate(self.symmetry.actions)}
        self.keys, self.known = np.zeros(units), np.zeros(units, bool)
        signs = self.symmetry.classes["sign"]
        self.decided = np.zeros(int(signs.max(initial=-1)) + 1, bool)
        bounds = np.array([s.start for s in self.symmetry.unit_sets] + [units])
        self.touching = [[] for _ in self.symmetry.unit_sets]
        for name, actions in self.symmetry.actions.items():
            for action in actions:
                here = np.unique(action.unit[action.unit >= 0])
                for number in np.unique(np.searchsorted(bounds, here, side="right") - 1):
                    self.touching[number].append((name, action))

    def settle_phases(self) -> None:
        """k so that bias + kπ/ω lies in [−π/2ω, π/2ω), for the signs there are and from now on for every sign to come.

        Both ends of the interval are one class, and biases do stand there (sin(ωw·x + π/2) is a cosine): what is closer
        to the upper end than rounding could have moved it counts as the lower end.
        """
        self.phases = True
        sign = np.append(self.element.sign, 1.0)
        for name, actions in self.symmetry.actions.items():
            for action in actions:
                if action.phase:
                    use = action.shift >= 0
                    entries = action.shift[use]
                    bias = self.tensors[name].reshape(-1).astype(np.float64)[use]
                    turns = sign[self.symmetry.shift_signs[entries]] * bias / action.phase
                    self.element.shift[entries] = -np.floor(turns + 0.5 + self.edge).astype(np.int64)

    def run(self, signs: bool) -> None:
        """Forward: signs and keys of each set from what is known before it; then signs left over, from what they feed."""
        if not signs:
            self.decided[:] = True
        early = []
        for number, unit_set in enumerate(self.symmetry.unit_sets):
            if not self.decided.all():
                self._decide_signs(number, unit_set, forward=True)
            if not self._set_keys(number, unit_set, self.keys):
                early.append((number, unit_set))
        if not self.decided.all():
            for number, unit_set in reversed(list(enumerate(self.symmetry.unit_sets))):
                self._decide_signs(number, unit_set, forward=False)
        self.decided[:] = True
        for number, unit_set in early:  # set without tensors whose signs were still open
            self._set_keys(number, unit_set, self.keys)

    def order(self) -> IntArray:
        """Flat permutation: units of each permutable set by key, ties by keys of further rounds."""
        groups = self._clusters([self.keys])
        levels = [self.keys]
        for salt in range(1, _ROUNDS + 1):
            tied = [s.permutable and (s.block_size > 0 or self._has_ties(groups, s)) for s in self.symmetry.unit_sets]
            if not any(self._has_ties(groups, s) for s in self.symmetry.unit_sets):
                break
            mixed = sum((0.618**i * level for i, level in enumerate(levels)), np.zeros(len(self.keys)))
            fresh = np.zeros(len(self.keys))
            for number, unit_set in enumerate(self.symmetry.unit_sets):
                if tied[number]:
                    self._set_keys(number, unit_set, mixed, into=fresh, salt=salt)
            levels.append(fresh)
            groups = self._clusters(levels)
        permutation = np.arange(self.symmetry.units, dtype=np.int64)
        blocks = self._block_orders(levels)
        for unit_set in self.symmetry.unit_sets:
            span = slice(unit_set.start, unit_set.start + unit_set.size)
            if unit_set.permutable and unit_set.block_size:
                rows = groups[span].reshape(-1, unit_set.block_size)[blocks[unit_set.block_family]]
                within = np.argsort(rows, axis=1, kind="stable")
                moved = blocks[unit_set.block_family][:, None] * unit_set.block_size + within
                permutation[span] = moved.reshape(-1) + unit_set.start
            elif unit_set.permutable:
                permutation[span] = np.argsort(groups[span], kind="stable") + unit_set.start
        return permutation

    def _block_orders(self, levels: list[FloatArray]) -> dict[int, IntArray]:
        """Order of the blocks of each family: by symmetric functions of the keys of the units in them."""
        sums: dict[int, list[FloatArray]] = {}
        for number, unit_set in enumerate(self.symmetry.unit_sets):
            if not unit_set.block_size:
                continue
            span = slice(unit_set.start, unit_set.start + unit_set.size)
            weight = fixed_numbers(np.array([number], np.uint64))[0]
            of_set = []
            for level in levels:
                keys = level[span].reshape(-1, unit_set.block_size)
                of_set.append(weight * (keys + 0.37 * keys**2).mean(axis=1))
            known = sums.get(unit_set.block_family)
            both = of_set if known is None else [a + b for a, b in zip(known, of_set, strict=True)]
            sums[unit_set.block_family] = both
        out = {}
        for family, values in sums.items():
            rank = np.zeros(len(values[0]), np.int64)
            for value in values:
                order = np.lexsort((value, rank))
                step = (np.diff(value[order]) > self.tolerance) | (np.diff(rank[order]) > 0)
                rank[order] = np.concatenate([[0], np.cumsum(step)])
            out[family] = np.argsort(rank, kind="stable")
        return out

    def _clusters(self, levels: list[FloatArray]) -> IntArray:
        """Rank of each unit in its set; equal where no level separates."""
        rank = np.zeros(len(self.keys), np.int64)
        for unit_set in self.symmetry.unit_sets:
            span = slice(unit_set.start, unit_set.start + unit_set.size)
            current = np.zeros(unit_set.size, np.int64)
            for level in levels:
                values = level[span]
                order = np.lexsort((values, current))
                step = (np.diff(values[order]) > self.tolerance) | (np.diff(current[order]) > 0)
                current[order] = np.concatenate([[0], np.cumsum(step)])
            rank[span] = current
        return rank

    def _has_ties(self, rank: IntArray, unit_set: UnitSet) -> bool:
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        return unit_set.permutable and len(np.unique(rank[span])) < unit_set.size

    def _others_known(self, name: str, action: Action) -> bool:
        """Whether everything on the tensor's other axes is settled, and every other sign on this one."""
        for other in self.symmetry.actions[name]:
            if other is action:
                continue
            units = other.unit[other.unit >= 0]
            if other.dim != action.dim and not self.known[units].all():
                return False
            if other.signed and not self._signs_decided(other):
                return False
        return True

    def _signs_decided(self, action: Action) -> bool:
        classes = self.symmetry.classes["sign"][action.sign[action.sign >= 0]]
        return bool(self.decided[classes].all())

    def _decide_signs(self, number: int, unit_set: UnitSet, forward: bool) -> None:
        """The sign that makes an odd statistic positive: γ of a batch norm, else incoming weights, else the bias."""
        sign_classes = self.symmetry.classes["sign"]
        start = self.symmetry.starts["sign"][number]
        for row in range(unit_set.families["sign"]):
            span = slice(start + row * unit_set.size, start + (row + 1) * unit_set.size)
            wanted = np.unique(sign_classes[span])
            wanted = wanted[~self.decided[wanted]]
            if not len(wanted):
                continue
            candidates: list[tuple[int, int, str, Action]] = []
            for name, action in self.touching[number]:
                has = action.signed and np.isin(sign_classes[action.sign[action.sign >= 0]], wanted).any()
                if not has or (forward and action.exponent < 0):
                    continue
                shared = sum(a.dim == action.dim and a.signed for a in self.symmetry.actions[name]) > 1
                matrix = self.tensors[name].size > len(action.unit) or action.groups > 1
                candidates.append((0 if shared else 1 if matrix else 2, len(candidates), name, action))
            for _, _, name, action in sorted(candidates, key=lambda c: c[:2]):
                if self._others_known(name, action):
                    self._decide_from(name, action, wanted)

    def _decide_from(self, name: str, action: Action, wanted: IntArray) -> None:
        statistic = self.projector.projected(name, action.dim, self.keys)
        classes = np.append(self.symmetry.classes["sign"], len(self.decided))[action.sign]
        open_ = ~np.append(self.decided, True)[classes]
        total = np.zeros(len(self.decided))
        alone = open_.sum(axis=0) == 1  # the other signs of a product are decided
        for row, still in zip(classes, open_, strict=True):
            np.add.at(total, row[still & alone], statistic[still & alone])
        scale = float(np.sqrt(np.mean(statistic**2))) if len(statistic) else 0.0
        clear = np.abs(total) > self.tolerance * scale
        fresh = clear & ~self.decided & np.isin(np.arange(len(total)), wanted)
        negative = fresh & (total < 0)
        entries = negative[self.symmetry.classes["sign"]]
        self.element.sign[entries] = -1.0
        if entries.any():
            self.projector.signs_changed()
            if self.phases:
                self._phases_after_flips()
        self.decided |= fresh

    def _phases_after_flips(self) -> None:
        """Counts for the new signs: s(b + kπ/ω) = sb + (sk)π/ω, and one more where b is at an end of the interval."""
        parity = self.element.shift % 2
        self.settle_phases()
        if (parity != self.element.shift % 2).any():
            self.projector.parities_changed()

    def _set_keys(
        self, number: int, unit_set: UnitSet, keys: FloatArray, into: FloatArray | None = None, salt: int = 0
    ) -> bool:
        """Add up normalized projections of every tensor whose other axes and signs are known; whether all signs were."""
        complete = True
        total = np.zeros(self.symmetry.units)
        span = slice(unit_set.start, unit_set.start + unit_set.size)
        seen: set[tuple[str, int]] = set()
        for name, action in self.touching[number]:
            if (name, action.dim) in seen or not self._keys_known(name, action):
                continue
            if not all(self._signs_decided(other) for other in self.symmetry.actions[name] if other.signed):
                complete = False
                continue
            seen.add((name, action.dim))
            values = self.projector.projected(name, action.dim, keys, salt)
            part = np.zeros(self.symmetry.units)
            use = action.unit >= 0
            np.add.at(part, action.unit[use], (values * self.projector.label_sizes(action, salt))[use])
            size = float(np.sqrt(np.mean(part[span] ** 2)))
            if size > 0:
                weight = float(
                    np.abs(fixed_numbers(np.array([self.position[name] * 8 + action.dim], np.uint64), salt))[0]
                )
                total[span] += weight / size * part[span]
        size = float(np.sqrt(np.mean(total[span] ** 2)))
        target = self.keys if into is None else into
        target[span] = total[span] / size if size > 0 else 0.0
        self.known[span] = True
        return complete

    def _keys_known(self, name: str, action: Action) -> bool:
        return all(
            other.dim == action.dim or self.known[other.unit[other.unit >= 0]].all()
            for other in self.symmetry.actions[name]
        )
