"""canonical/blocks.py: a matrix of summed weights in blocks of rows that stand in memory or are made again for every use.

Knows arrays. A block has the same entries either way, so that no result depends on whether there was room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nfn_cli.symmetry.element import FloatArray

Blocks = Callable[[], Iterator[FloatArray]]


@dataclass(frozen=True, slots=True, eq=False)
class BlockMatrix:
    """(R, C) float64.

    Attributes:
        shape: (R, C).
        blocks: makes an iterator over the blocks, from the first row on.
    """

    shape: tuple[int, int]
    blocks: Blocks

    def times(self, right: FloatArray) -> FloatArray:
        """(C,) or (C, K) -> (R,) or (R, K): the matrix times `right`."""
        return np.concatenate([np.zeros((0, *right.shape[1:])), *(block @ right for block in self.blocks())])

    def times_left(self, left: FloatArray) -> FloatArray:
        """(R,) -> (C,): `left` times the matrix."""
        total, start = np.zeros(self.shape[1]), 0
        for block in self.blocks():
            total += left[start : start + len(block)] @ block
            start += len(block)
        return total

    def largest_left(self, left: FloatArray) -> FloatArray:
        """(R,) -> (C,): the largest entry of each column after the rows are multiplied by `left`."""
        total, start = np.zeros(self.shape[1]), 0
        for block in self.blocks():
            np.maximum(total, (left[start : start + len(block), None] * block).max(axis=0, initial=0.0), out=total)
            start += len(block)
        return total

    def largest_right(self, right: FloatArray) -> FloatArray:
        """(C,) -> (R,): the largest entry of each row after the columns are multiplied by `right`."""
        return np.concatenate([np.zeros(0), *((block * right).max(axis=1) for block in self.blocks())])


def whole(matrix: FloatArray) -> BlockMatrix:
    """A matrix that stands in memory, as one block."""
    return BlockMatrix((matrix.shape[0], matrix.shape[1]), lambda: iter((matrix,)))


@dataclass(slots=True)
class Room:
    """How much of the matrices may stand in memory.

    Attributes:
        left: bytes.
    """

    left: int = 1 << 28

    def held(self, matrix: BlockMatrix) -> BlockMatrix:
        """The matrix with its blocks in memory if there is room for them."""
        size = 8 * matrix.shape[0] * matrix.shape[1]
        if size > self.left:
            return matrix
        self.left -= size
        kept = tuple(matrix.blocks())
        return BlockMatrix(matrix.shape, lambda: iter(kept))
