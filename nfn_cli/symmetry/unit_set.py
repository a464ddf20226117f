"""symmetry/unit_set.py: what one unit set is. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class UnitSet:
    """Units that may be exchanged with one another (or, where not `permutable`, only rescaled, flipped, shifted).

    Attributes:
        name: the first tensor that makes these units, without its last name part.
        network: name of the network it belongs to.
        size: n.
        start: flat index of its first unit; its units are start … start + n − 1.
        permutable: whether S_n acts.
        families: how many independent scales, signs and phase counts each unit has.
        touches: (tensor, axis) pairs the set acts on.
        block_size: units that stay together in runs of this length; the runs may be exchanged whole. 0 where any
            permutation will do.
        block_family: number of the family of runs; sets of one family exchange theirs together.
    """

    name: str
    network: int
    size: int
    start: int
    permutable: bool
    families: Mapping[str, int]
    touches: tuple[tuple[str, int], ...]
    block_size: int = 0
    block_family: int = -1
