"""canonical/common_scales.py: Newton on one common log-scale for each family: the slow direction of solving them by turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.coupling import BoolArray, Coupling, Side
from nfn_cli.canonical.pulls import energy_factor
from nfn_cli.errors import Refused
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Kinds:
    """The groups of a side by what the common scales do to them: exponents (kinds, families), kind of each group."""

    exponents: FloatArray
    of: IntArray


class CommonScales:
    """The couplings of some families, seen from their common scales."""

    def __init__(self, terms: Sequence[Coupling], family: IntArray, live: BoolArray, families: IntArray) -> None:
        self.count = len(families)
        place = np.full(int(family.max(initial=-1)) + 2, self.count, np.int64)
        place[families] = np.arange(self.count)
        self.of_class = np.where(live, place[family], self.count)
        self.blocks: list[tuple[Coupling, _Kinds, _Kinds]] = []
        for term in terms:
            rows, columns = self._kinds(term.rows), self._kinds(term.columns)
            if rows.exponents.any() or columns.exponents.any():
                self.blocks.append((term, rows, columns))

    def _kinds(self, side: Side) -> _Kinds:
        """Groups with equal exponents are one kind."""
        family = np.where(side.coefficient != 0, self.of_class[side.classes], self.count)
        coefficient = np.where(family < self.count, side.coefficient, 0.0)
        order = np.argsort(family, axis=0, kind="stable")
        rows = np.concatenate(
            [np.take_along_axis(family, order, 0).astype(np.float64), np.take_along_axis(coefficient, order, 0)]
        )
        unique, of = np.unique(rows, axis=1, return_inverse=True)
        depth = len(side.classes)
        exponents = np.zeros((unique.shape[1], self.count + 1))
        for j in range(depth):
            np.add.at(exponents, (np.arange(unique.shape[1]), unique[j].astype(np.int64)), unique[depth + j])
        return _Kinds(exponents[:, : self.count], of.reshape(-1))

    def step(self, x: FloatArray, weight: FloatArray) -> None:
        """Move x along the common scales to the least Σ‖W‖² (damped Newton, in place)."""
        a, energy = self._energies(x, weight)
        if not len(energy):
            return
        if not np.isfinite(energy).all():
            raise Refused("weights are too large: their squares are not finite", code="weights-too-large")
        energy = energy / energy.max()
        t = np.zeros(self.count)
        for _ in range(50):
            values = energy * np.exp(2 * a @ t)
            gradient = 2 * a.T @ values
            hessian = 4 * (a.T * values) @ a
            hessian[np.diag_indices_from(hessian)] *= 1 + 1e-12
            newton = -np.linalg.lstsq(hessian, gradient, rcond=1e-14)[0]
            newton *= min(1.0, 2.0 / max(1e-300, float(np.max(np.abs(newton)))))
            before, shrink = values.sum(), 1.0
            while shrink > 1e-6 and (energy * np.exp(2 * a @ (t + shrink * newton))).sum() > before:
                shrink *= 0.5
            if shrink <= 1e-6:
                break
            t += shrink * newton
            if float(np.max(np.abs(newton))) < 1e-15:
                break
        x += np.append(t, 0.0)[self.of_class]

    def _energies(self, x: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Exponents (entries, families) and squared norms of all entries that some common scale moves."""
        exponents, energies = [np.zeros((0, self.count))], [np.zeros(0)]
        for term, rows, columns in self.blocks:
            left, right = energy_factor(term.rows, x, weight), energy_factor(term.columns, x, weight)
            indicator = np.zeros((len(right), len(columns.exponents)))
            indicator[np.arange(len(right)), columns.of] = right
            sums = np.zeros((len(rows.exponents), len(columns.exponents)))
            np.add.at(sums, rows.of, left[:, None] * term.matrix.times(indicator))
            exponents.append((rows.exponents[:, None, :] + columns.exponents[None, :, :]).reshape(-1, self.count))
            energies.append(sums.reshape(-1))
        a, energy = np.concatenate(exponents), np.concatenate(energies)
        use = (energy > 0) & (a != 0).any(axis=1)
        return a[use], energy[use]
