"""symmetry/blocks.py: units that only move together (groups of a convolution), and which of these blocks may be exchanged.

A grouped convolution allows S_k ≀ S_g: any order within a group, and whole groups exchanged, the same way on both sides.
Where the groups of two ops cross (a channel shuffle between grouped convolutions), no block is exchanged: units may only change
places with those that share all of their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfn_cli.symmetry.axis import HashArray, IntArray, mix
from nfn_cli.symmetry.system import System, components, summed_hash
from nfn_cli.symmetry.unit_set import UnitSet

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Blocks:
    """By node of unit.

    Attributes:
        of: number of the block a unit belongs to, 0 for none.
        kind: hash that two units must share to be exchanged: equal for units of blocks that look alike.
        torn: units that two ops pull into different blocks and that no other follows there; they stay where they are.
        tearing: numbers of the ops that have several of their blocks tied into one.
    """

    of: IntArray
    kind: HashArray
    torn: BoolArray
    tearing: frozenset[int] = frozenset()

    def ordered(self, first_slot: IntArray) -> IntArray:
        """Units of one block get one number, in the order of the blocks' first slots; others 0."""
        first = np.full(int(self.of.max(initial=0)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, self.of, first_slot)
        return np.where(self.of > 0, first[self.of], 0)

    def noted(self, unit_sets: tuple[UnitSet, ...], nodes: IntArray) -> tuple[UnitSet, ...]:
        """Unit sets with their block sizes; sets whose units sit in the same blocks belong to one family."""
        family: dict[int, int] = {}
        out = []
        for unit_set in unit_sets:
            of = self.of[nodes[unit_set.start : unit_set.start + unit_set.size]]
            runs = np.flatnonzero(np.append(True, np.diff(of) != 0)) if len(of) else np.zeros(0, np.int64)
            if len(of) and of[0] and len(runs) > 1:
                number = family.setdefault(int(of[0]), len(family))
                unit_set = replace(unit_set, block_size=unit_set.size // len(runs), block_family=number)
            out.append(unit_set)
        return tuple(out)


def find_blocks(system: System, root: IntArray, signature: HashArray, fixed: BoolArray) -> Blocks:
    """Join the blocks of all ops over the units they share.

    Args:
        root: node of unit -> least node it is tied to.
        signature: by root, what tells units apart before blocks are looked at.
        fixed: by root, units that cannot move.
    """
    count = len(root)
    none = Blocks(np.zeros(count, np.int64), np.zeros(count, np.uint64), np.zeros(count, bool))
    if not system.memberships:
        return none
    unit = np.concatenate([root[m.unit] for m in system.memberships])
    block = np.concatenate([m.block for m in system.memberships])
    use_of_block = np.zeros(system.blocks, np.int64)
    for m in system.memberships:
        use_of_block[m.block] = m.use
    order = np.argsort(unit, kind="stable")
    same = np.diff(unit[order]) == 0
    joined = components(system.blocks, [(block[order][1:][same], block[order][:-1][same])])
    # a component with two blocks of one op: some unit is pulled both ways
    nodes = np.unique(block)
    pair, times = np.unique(np.stack([joined[nodes], use_of_block[nodes]]), axis=1, return_counts=True)
    crossed = np.zeros(system.blocks, bool)
    crossed[pair[0][times > 1]] = True
    of = np.zeros(count, np.int64)
    of[unit] = joined[block]
    apart = crossed[of] & (of > 0)
    of[apart] = 0
    members = np.unique(unit[~apart[unit]])
    number = of[members]
    kind_of_block = summed_hash(number, signature[members], system.blocks)
    held = np.zeros(system.blocks, bool)
    held[number[fixed[members]]] = True  # a block with a unit that cannot move cannot move
    kind_of_block = mix(kind_of_block, np.where(held, np.arange(system.blocks) + 1, 0))
    kind = np.zeros(count, np.uint64)
    kind[members] = kind_of_block[number]
    shared = np.flatnonzero(apart)
    cell = mix(signature[shared], summed_hash(unit, block.astype(np.uint64), count)[shared])
    _, back, followers = np.unique(cell, return_inverse=True, return_counts=True)
    alone = followers[back] == 1
    kind[shared[~alone]] = cell[~alone]
    torn = np.zeros(count, bool)
    torn[shared[alone]] = True
    return Blocks(of, kind, torn, frozenset(pair[1][times > 1].tolist()))
