"""symmetry/relations.py: equations among log-magnitudes (over the rationals) and among signs (over GF(2)), solved for free nodes.

Most equations say that two nodes are equal; `components` has merged those. What is left are sums: a product carries the sum of
its factors' log-magnitudes, a power a multiple of its argument's. Elimination keeps whole coefficients: a node is only
expressed by others where its own coefficient is ±1; equations without such a node pin all they hold, which costs
symmetry, never correctness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from nfn_cli.symmetry.axis import IntArray

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_DEEPEST = 8  # free nodes that one node may be a sum of
_LARGEST_RING = 4096  # equations in which no node stands alone; more are pinned instead of eliminated one by one


@dataclass(frozen=True, eq=False)
class Relation:
    """R equations Σ_k coefficient[k, r] · node[k, r] = 0 among nodes of one kind; both arrays are (K, R)."""

    node: IntArray
    coefficient: IntArray


@dataclass(frozen=True, eq=False)
class Expansion:
    """What each node is in terms of free ones: Σ_d coefficient[d, n] · node[d, n]; both (D, nodes). Node 0 stands for nothing."""

    node: IntArray
    coefficient: IntArray

    @property
    def depth(self) -> int:
        return len(self.node)


def expanded(
    root: IntArray, pinned: BoolArray, relations: Sequence[Relation], keep: IntArray, modulus: int = 0
) -> Expansion:
    """Solve the relations.

    Args:
        root: node -> the node it equals.
        pinned: by node; of a component all or none.
        keep: nodes that must stay single: they are never expressed by others.
        modulus: 2 for signs, 0 for magnitudes.
    """
    plain = np.where(pinned, 0, root)
    if not relations:
        return Expansion(plain[None], np.ones((1, len(root)), np.int64))
    kept = np.zeros(len(root), bool)
    kept[plain[keep]] = True
    system = _Equations(plain, relations, modulus)
    definitions = system.eliminated(kept)
    if not definitions and not system.zero:
        return Expansion(plain[None], np.ones((1, len(root)), np.int64))
    return _substituted(plain, definitions, system.zero, modulus)


@dataclass(frozen=True, eq=False)
class _Definitions:
    """Nodes expressed by others, in coordinates: node[i] = Σ value over the entries with row i."""

    node: IntArray
    row: IntArray
    other: IntArray
    value: IntArray


class _Equations:
    """The equations in coordinates (row, node, value), and the nodes that turned out to be 0."""

    def __init__(self, plain: IntArray, relations: Sequence[Relation], modulus: int) -> None:
        self.modulus, self.zero = modulus, set[int]()
        row, node, value, start = [], [], [], 0
        for relation in relations:
            k, r = relation.node.shape
            row.append(np.tile(np.arange(start, start + r), k))
            node.append(plain[relation.node].reshape(-1))
            value.append(relation.coefficient.reshape(-1))
            start += r
        self._set(np.concatenate(row), np.concatenate(node), np.concatenate(value), start)

    def _set(self, row: IntArray, node: IntArray, value: IntArray, rows: int) -> None:
        """Entries of one node in one row added up; zeros dropped."""
        self.rows = rows
        width = int(node.max(initial=0)) + 1
        code, back = np.unique(row * width + node, return_inverse=True)
        total = np.zeros(len(code), np.int64)
        np.add.at(total, back.reshape(-1), value)
        if self.modulus:
            total %= self.modulus
        use = (total != 0) & (code % width != 0)
        self.row, self.node, self.value = code[use] // width, code[use] % width, total[use]
        if len(self.row) and not self.modulus:
            starts = np.flatnonzero(np.append(True, np.diff(self.row) != 0))
            common = np.gcd.reduceat(self.value, starts)
            self.value = self.value // np.repeat(common, np.diff(np.append(starts, len(self.row))))

    def _without(self, rows: BoolArray) -> None:
        use = ~rows[self.row]
        self.row, self.node, self.value = self.row[use], self.node[use], self.value[use]

    def eliminated(self, kept: BoolArray) -> list[_Definitions]:
        """Definitions in the order in which nodes were taken out: each holds only nodes that are taken out later, or never."""
        found = []
        while len(self.row):
            if self._drop_zeros(kept):
                continue
            alone = np.bincount(self.node, minlength=len(kept))[self.node] == 1
            good = np.flatnonzero(alone & (np.abs(self.value) == 1) & ~kept[self.node])
            if not len(good):
                found += self._ring(kept)
                break
            # of several in one row the youngest: the product rather than its factors
            order = good[np.lexsort((self.node[good], self.row[good]))]
            last = order[np.append(np.diff(self.row[order]) != 0, True)]
            found.append(self._defined(last))
            taken = np.zeros(self.rows, bool)
            taken[self.row[last]] = True
            self._without(taken)
        return found

    def _drop_zeros(self, kept: BoolArray) -> bool:
        """A row of one node says that it is 0."""
        single = np.bincount(self.row, minlength=self.rows)[self.row] == 1
        if not single.any():
            return False
        nodes = np.unique(self.node[single])
        self.zero.update(nodes.tolist())
        use = ~np.isin(self.node, nodes)
        self.row, self.node, self.value = self.row[use], self.node[use], self.value[use]
        return True

    def _defined(self, pivots: IntArray) -> _Definitions:
        place = np.full(self.rows, -1, np.int64)
        place[self.row[pivots]] = np.arange(len(pivots))
        others = (place[self.row] >= 0) & ~np.isin(np.arange(len(self.row)), pivots)
        sign = self.value[pivots][place[self.row[others]]]
        value = -self.value[others] * sign  # the pivot's coefficient is ±1, its own inverse
        return _Definitions(self.node[pivots], place[self.row[others]], self.node[others], value)

    def _ring(self, kept: BoolArray) -> list[_Definitions]:
        """Equations that share all their nodes, one after another."""
        equations: dict[int, dict[int, int]] = {}
        for row, node, value in zip(self.row.tolist(), self.node.tolist(), self.value.tolist(), strict=True):
            equations.setdefault(row, {})[node] = value
        if len(equations) > _LARGEST_RING:
            self.zero.update(self.node.tolist())
            return []
        found = []
        while equations:
            _, equation = equations.popitem()
            equation = {n: v for n, v in equation.items() if n not in self.zero}
            common = gcd(*equation.values()) or 1
            equation = {n: v // common for n, v in equation.items()}
            pivot = max((n for n, v in equation.items() if abs(v) == 1 and not kept[n]), default=None)
            if pivot is None:
                self.zero.update(equation)
                continue
            sign = equation.pop(pivot)
            made = {n: -v * sign for n, v in equation.items()}
            found.append(_one_definition(pivot, made))
            for other in equations.values():
                times = other.pop(pivot, 0)
                for n, v in made.items():
                    total = other.get(n, 0) + times * v
                    total = total % self.modulus if self.modulus else total
                    other.pop(n, None)
                    if total:
                        other[n] = total
        return found


def _one_definition(node: int, made: dict[int, int]) -> _Definitions:
    others = np.array(list(made), np.int64)
    values = np.array(list(made.values()), np.int64)
    return _Definitions(np.array([node], np.int64), np.zeros(len(others), np.int64), others, values)


def _substituted(plain: IntArray, definitions: list[_Definitions], zero: set[int], modulus: int) -> Expansion:
    """From the last definition to the first, until only free nodes are left."""
    from scipy.sparse import csr_array, diags_array

    count = len(plain)
    free = np.ones(count)
    free[[0, *zero]] = 0
    for definition in definitions:
        free[definition.node] = 0
    total = csr_array(diags_array(free))
    for definition in reversed(definitions):
        step = csr_array((definition.value, (definition.node[definition.row], definition.other)), shape=(count, count))
        total = csr_array(total + step.astype(np.float64) @ total)
    total = csr_array(total[plain])
    if modulus:
        total.data %= modulus
    total.eliminate_zeros()
    total.sort_indices()
    each = np.diff(total.indptr)
    if int(each.max(initial=0)) > _DEEPEST:  # free nodes of too long sums stay as they are, for all that hold them
        long = np.unique(total.indices[np.repeat(each > _DEEPEST, each)])
        keep = np.ones(count)
        keep[long] = 0
        total = csr_array(total @ diags_array(keep))
        total.eliminate_zeros()
        each = np.diff(total.indptr)
    depth = max(1, int(each.max(initial=0)))
    node, coefficient = np.zeros((depth, count), np.int64), np.ones((depth, count), np.int64)
    owner = np.repeat(np.arange(count), each)
    place = np.arange(len(owner)) - total.indptr[:-1][owner]
    node[place, owner], coefficient[place, owner] = total.indices, np.rint(total.data).astype(np.int64)
    return Expansion(node, coefficient)
