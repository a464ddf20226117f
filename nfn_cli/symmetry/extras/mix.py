"""symmetry/extras/mix.py: invertible matrices A = 1 + U·Vᵀ of low rank: random ones, their inverses, and what they do to an axis.

A random A of low rank tests GL(n) as well as a full one does, and needs no n × n matrix. Arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nfn_cli.symmetry.extras.extra import FloatArray, IntArray

_RANK = 8


@dataclass(frozen=True, eq=False)
class Mix:
    """1 + U·Vᵀ; both (n, k)."""

    left: FloatArray
    right: FloatArray

    def inverse(self) -> Mix:
        """Woodbury's formula."""
        small = np.eye(self.left.shape[1]) + self.right.T @ self.left
        return Mix(-self.left @ np.linalg.inv(small), self.right)

    def framed(self, frame: FloatArray) -> Mix:
        """F·A·F⁻¹ for the diagonal F."""
        return Mix(frame[:, None] * self.left, self.right / frame[:, None])

    def transposed(self) -> Mix:
        return Mix(self.right, self.left)

    def on_vector(self, vector: FloatArray) -> FloatArray:
        """A vector up to axes of length 1."""
        flat = vector.reshape(-1)
        return np.asarray((flat + self.left @ (self.right.T @ flat)).reshape(vector.shape))

    def along(self, array: FloatArray, dim: int, columns: IntArray | None = None) -> FloatArray:
        """A applied along one axis, or to each set `columns[:, k]` of its entries."""
        moved = np.moveaxis(array, dim, 0)
        part = moved if columns is None else moved[columns]
        mixed = part + np.tensordot(self.left, np.tensordot(self.right.T, part, 1), 1)
        if columns is None:
            return np.ascontiguousarray(np.moveaxis(mixed, 0, dim))
        out = moved.copy()
        out[columns] = mixed
        return np.ascontiguousarray(np.moveaxis(out, 0, dim))


def random_mix(live: FloatArray, basis: FloatArray | None, random: np.random.Generator) -> Mix:
    """Well-conditioned, the identity on units that are not live; with `basis` the identity off what it spans: A = 1 + X·P."""
    n = len(live)
    k = min(n, _RANK)
    left, right = (random.standard_normal((n, k)) * live[:, None] for _ in range(2))
    if basis is not None:
        right = basis @ (basis.T @ right)
    return Mix(left * (0.5 / max(1.0, n)), right)


def random_rotation(live: FloatArray, keep_ones: bool, random: np.random.Generator) -> Mix:
    """Two Householder reflections; with `keep_ones` they leave the vector of ones where it is."""
    v, w = (random.standard_normal(len(live)) * live for _ in range(2))
    if keep_ones:
        v, w = (u - live * (u.sum() / live.sum()) for u in (v, w))
    v, w = (u / max(float(np.linalg.norm(u)), 1e-300) for u in (v, w))
    return Mix(np.stack([v, w], 1), np.stack([-2 * v + 4 * (v @ w) * w, -2 * w], 1))
