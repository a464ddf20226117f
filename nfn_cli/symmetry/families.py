"""symmetry/families.py: the independent magnitudes (signs, phase counts) of each unit, numbered in flat order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nfn_cli.symmetry.axis import HashArray, IntArray
from nfn_cli.symmetry.slots import Slots


@dataclass(frozen=True, eq=False)
class Layout:
    """The flat order of units: set k owns units start_k … start_k + size_k − 1."""

    sizes: IntArray

    @property
    def starts(self) -> IntArray:
        return np.concatenate([[0], np.cumsum(self.sizes)])[:-1].astype(np.int64)

    @property
    def set_of_unit(self) -> IntArray:
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


@dataclass(frozen=True, eq=False)
class Families:
    """One kind of families.

    Attributes:
        counts: families of each unit set.
        starts: flat index of each set's first entry.
        classes: (entries,) entries with equal numbers are equal.
        pairs: sorted codes of (unit, node); `entry` of each.
    """

    counts: IntArray
    starts: tuple[int, ...]
    classes: IntArray
    pairs: IntArray
    entry: IntArray
    nodes: int

    def lookup(self, flat_unit: IntArray, node: IntArray) -> IntArray:
        """(slots,) units and (D, slots) nodes -> flat entries; −1 where the slot carries none."""
        code = flat_unit * self.nodes + node
        if not len(self.pairs):
            return np.full(code.shape, -1, np.int64)
        at = np.minimum(np.searchsorted(self.pairs, code), len(self.pairs) - 1)
        return np.where((self.pairs[at] == code) & (node != 0) & (flat_unit >= 0), self.entry[at], -1)


def numbered(kind: str, slots: Slots, of_node: HashArray, flat_unit: IntArray, layout: Layout) -> Families:
    """Number each unit's magnitudes (signs, shifts) in the order in which its axes meet them.

    Args:
        of_node: what tells nodes apart, so that units that may be exchanged number theirs in the same order.
        flat_unit: (slots,) flat unit of each slot, −1 for none.
    """
    node = slots.node[kind]
    depth, count = node.shape
    nodes = int(node.max(initial=0)) + 1
    slot = np.tile(np.arange(count), depth)
    flat = node.reshape(-1)
    use = np.flatnonzero((flat != 0) & (flat_unit[slot] >= 0))
    slot, flat = slot[use], flat[use]
    order = np.lexsort((of_node[flat], slots.label[slot], slots.where[slot], flat_unit[slot]))
    slot, flat = slot[order], flat[order]
    pairs, first = np.unique(flat_unit[slot] * nodes + flat, return_index=True)
    by_appearance = np.argsort(first, kind="stable")
    owner = pairs[by_appearance] // nodes
    ordinal = np.arange(len(owner)) - np.searchsorted(owner, owner) if len(owner) else np.zeros(0, np.int64)
    counts = np.zeros(len(layout.sizes), np.int64)
    of_set = layout.set_of_unit[owner]
    np.maximum.at(counts, of_set, ordinal + 1)
    starts = np.concatenate([[0], np.cumsum(counts * layout.sizes)]).astype(np.int64)
    place = starts[of_set] + ordinal * layout.sizes[of_set] + owner - layout.starts[of_set]
    classes = np.full(int(starts[-1]), -1, np.int64)
    classes[place] = pairs[by_appearance] % nodes
    _, classes = np.unique(classes, return_inverse=True)
    entry = np.empty(len(pairs), np.int64)
    entry[by_appearance] = place
    return Families(counts, tuple(int(s) for s in starts[:-1]), classes.astype(np.int64), pairs, entry, nodes)
