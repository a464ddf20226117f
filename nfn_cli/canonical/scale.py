"""canonical/scale.py: the scale of the canonical form, as log-scales per class. Knows couplings; moves no tensor.

Balanced: the least Σ‖W‖² on the scale orbit, a sum of exponentials of linear functions of the log-scales x, hence convex.
Classes that nothing feeds or nothing reads have no minimum; they are left out, then get norm 1 on their other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.coupling import Coupling, Side, Tensors, couplings, number_of_classes
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Symmetry

_SWEEPS = 3000
_TOLERANCE = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Couplings, the family of each class (classes of one family are updated together), and which classes are settled."""

    terms: list[Coupling]
    family: IntArray
    settled: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @property
    def fixed(self) -> int:
        return len(self.family)


def log_scales(symmetry: Symmetry, tensors: Tensors, mode: str) -> FloatArray:
    """(classes,) log of the scale of each class.

    Args:
        mode: "balanced", "unit", "pow2", "equalize" or "none".
    """
    count = number_of_classes(symmetry)
    x = np.zeros(count + 1)
    if mode == "none" or not count:
        return x[:-1]
    settled = np.zeros(count + 1, bool)
    settled[count] = True
    _settle_batch_norms(symmetry, tensors, x, settled)
    problem = _Problem(couplings(symmetry, tensors), _families(symmetry, count), settled)
    absorbed = settled.copy()
    if mode == "unit":
        _unit(problem, x)
    else:
        live = _live(problem)
        _balance(problem, x, live)
        if mode == "equalize":
            _equalize(_Problem(couplings(symmetry, tensors, largest=True), problem.family, settled), x, live)
        settled |= live
        _settle_degenerate(problem, x)
    if mode == "pow2":
        # what batch norm's statistics absorb is not exact in binary, and stays as it is
        x = np.where(absorbed, 0.0, np.round(x / np.log(2.0)) * np.log(2.0))
    return x[:-1]


def _families(symmetry: Symmetry, count: int) -> IntArray:
    """Class -> number of the (unit set, scale family) it first appears in."""
    family = np.full(count, -1, np.int64)
    number = 0
    for index, unit_set in enumerate(symmetry.unit_sets):
        start = symmetry.starts["scale"][index]
        for row in range(unit_set.families["scale"]):
            classes = symmetry.classes["scale"][start + row * unit_set.size : start + (row + 1) * unit_set.size]
            fresh = classes[family[classes] < 0]
            family[fresh] = number
            number += 1
    return family


def _settle_batch_norms(
    symmetry: Symmetry, tensors: Tensors, x: FloatArray, settled: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    """c²(var + ε) = 1; where several norms read one class, their geometric mean."""
    total, times = np.zeros(len(x)), np.zeros(len(x))
    for name, actions in symmetry.actions.items():
        for action in actions:
            if action.exponent == 2:
                use = action.scale >= 0
                classes = symmetry.classes["scale"][action.scale[use]]
                variance = tensors[name].reshape(-1).astype(np.float64)[use] + action.offset
                good = variance > 0
                np.add.at(total, classes[good], -0.5 * np.log(variance[good]) / action.power[use][good])
                np.add.at(times, classes[good], 1)
                settled[classes] = True
    x[times > 0] = (total / np.maximum(times, 1))[times > 0]


def _pulls(
    problem: _Problem,
    x: FloatArray,
    wanted_classes: np.ndarray[tuple[int], np.dtype[np.bool_]],
    weight: FloatArray,
    reduce: np.ufunc = np.add,
    power: float = 2.0,
    terms: Sequence[Coupling] | None = None,
) -> dict[float, FloatArray]:
    """For each coefficient c: per class, the sum over entries multiplied by exp(c·x) of that class, at x.

    Args:
        wanted_classes: (classes + 1,) which classes are wanted.
        weight: (classes + 1,) 1 where a class counts, 0 where rows and columns of it are left out.
    """
    pulls: dict[float, FloatArray] = {}
    for term in problem.terms if terms is None else terms:
        for side, other, matrix in ((term.rows, term.columns, term.matrix), (term.columns, term.rows, term.matrix.T)):
            wanted = wanted_classes[side.classes] & (side.coefficient != 0)
            if not wanted.any():
                continue
            across = np.exp(power * other.log_factor(x)) * _weight(other, weight)
            along = np.exp(power * side.log_factor(x))
            own = _weight(side, weight)
            if reduce is np.add:
                strength = along * own * (matrix @ across)
            else:
                strength = along * own * (matrix * across[None, :]).max(axis=1, initial=0.0)
            for classes, coefficients, take in zip(side.classes, side.coefficient, wanted, strict=True):
                for c in np.unique(coefficients[take]):
                    at = take & (coefficients == c)
                    reduce.at(pulls.setdefault(float(c), np.zeros(len(x))), classes[at], strength[at])
    return pulls


def _weight(side: Side, weight: FloatArray) -> FloatArray:
    active = np.where(side.coefficient != 0, weight[side.classes], 1.0)
    return np.asarray(active.prod(axis=0))


def _sides(pulls: dict[float, FloatArray], size: int) -> tuple[FloatArray, FloatArray]:
    into = sum((p for c, p in pulls.items() if c > 0), np.zeros(size))
    out = sum((p for c, p in pulls.items() if c < 0), np.zeros(size))
    return into, out


def _live(problem: _Problem) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Classes with weights on both sides, after leaving out, again and again, those that have none."""
    live = ~problem.settled
    size = len(live)
    zeros = np.zeros(size)
    while True:
        into, out = _sides(_pulls(problem, zeros, live, (live | problem.settled).astype(np.float64)), size)
        still = live & (into > 0) & (out > 0)
        if np.array_equal(still, live):
            return live
        live = still


def _balance(problem: _Problem, x: FloatArray, live: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """Exact block steps per family, with a Newton step on the families' common scales between sweeps."""
    weight = (live | problem.settled).astype(np.float64)
    family = np.append(problem.family, -1)
    numbers = np.unique(family[live])
    coupled = {int(n): _couples_itself(problem, family, int(n), live) for n in numbers}
    by_family = {
        int(n): [t for t in problem.terms if any((family[s.classes] == n).any() for s in (t.rows, t.columns))]
        for n in numbers
    }
    if not len(numbers):
        return
    index = np.full(int(family.max(initial=0)) + 2, len(numbers), np.int64)
    index[numbers] = np.arange(len(numbers))
    of_class = np.where(live, index[family], len(numbers))
    blocks = _blocks(problem, of_class, len(numbers))
    for sweep in range(_SWEEPS):
        worst = 0.0
        if sweep % 2 == 0:
            _common_step(x, blocks, of_class, weight, len(numbers))
        for number in numbers:
            mine = live & (family == number)
            pulls = _pulls(problem, x, mine, weight, terms=by_family[int(number)])
            step = _minimizer(pulls, mine)
            if coupled[int(number)]:
                step *= 0.5  # both ends of a weight move: half the step majorizes (e^{a+b} ≤ (e^{2a} + e^{2b})/2)
            x[mine] += step[mine]
            worst = max(worst, float(np.max(np.abs(step[mine]), initial=0.0)))
        if worst < _TOLERANCE:
            return


def _couples_itself(
    problem: _Problem, family: IntArray, number: int, live: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> bool:
    return any(
        (
            ((family[t.rows.classes] == number) & live[t.rows.classes] & (t.rows.coefficient != 0)).any()
            and ((family[t.columns.classes] == number) & live[t.columns.classes] & (t.columns.coefficient != 0)).any()
        )
        or any(
            side.classes.shape[0] > 1
            and (((family[side.classes] == number) & (side.coefficient != 0)).sum(axis=0) > 1).any()
            for side in (t.rows, t.columns)
        )
        for t in problem.terms
    )


def _minimizer(pulls: dict[float, FloatArray], mine: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FloatArray:
    """Per class the d that minimizes Σ_c E_c e^{2cd}: closed form for two coefficients, Newton otherwise."""
    size = len(mine)
    if len(pulls) == 2 and min(pulls) < 0 < max(pulls):
        (low, e_low), (high, e_high) = sorted(pulls.items())
        with np.errstate(divide="ignore", invalid="ignore"):
            d = np.log((-low * e_low) / (high * e_high)) / (2 * (high - low))
        return np.where(mine & np.isfinite(d), d, 0.0)
    d = np.zeros(size)
    for _ in range(100):
        gradient, curvature = np.zeros(size), np.full(size, 1e-300)
        for c, energy in pulls.items():
            term = energy * np.exp(2 * c * d)
            gradient += 2 * c * term
            curvature += 4 * c * c * term
        step = np.clip(-gradient / curvature, -1.0, 1.0)
        d += np.where(mine, step, 0.0)
        if float(np.max(np.abs(step[mine]), initial=0.0)) < 1e-14:
            break
    return d


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A coupling seen from the families: which common scales multiply each kind of row and column."""

    term: Coupling
    row_kinds: FloatArray
    row_of: IntArray
    column_kinds: FloatArray
    column_of: IntArray


def _blocks(problem: _Problem, of_class: IntArray, count: int) -> list[_Block]:
    blocks = []
    for term in problem.terms:
        row_kinds, row_of = np.unique(_exponents(term.rows, of_class, count), axis=0, return_inverse=True)
        column_kinds, column_of = np.unique(_exponents(term.columns, of_class, count), axis=0, return_inverse=True)
        blocks.append(_Block(term, row_kinds, row_of.reshape(-1), column_kinds, column_of.reshape(-1)))
    return blocks


def _common_step(x: FloatArray, blocks: list[_Block], of_class: IntArray, weight: FloatArray, count: int) -> None:
    """Newton on one common log-scale per family: the slow direction of the sweeps."""
    exponents, energies = [], []
    for block in blocks:
        rows, columns = block.term.rows, block.term.columns
        left = np.exp(2 * rows.log_factor(x)) * _weight(rows, weight)
        right = np.exp(2 * columns.log_factor(x)) * _weight(columns, weight)
        indicator = np.zeros((len(right), len(block.column_kinds)))
        indicator[np.arange(len(right)), block.column_of] = right
        sums = np.zeros((len(block.row_kinds), len(block.column_kinds)))
        np.add.at(sums, block.row_of, left[:, None] * (block.term.matrix @ indicator))
        exponents.append((block.row_kinds[:, None, :] + block.column_kinds[None, :, :]).reshape(-1, count))
        energies.append(sums.reshape(-1))
    a, e = np.concatenate(exponents), np.concatenate(energies)
    use = (e > 0) & (a != 0).any(axis=1)
    a, e = a[use], e[use]
    if not len(e):
        return
    t = np.zeros(count)
    e = e / e.max()
    for _ in range(50):
        values = e * np.exp(2 * a @ t)
        gradient = 2 * a.T @ values
        hessian = 4 * (a.T * values) @ a
        hessian[np.diag_indices_from(hessian)] *= 1 + 1e-12
        step = -np.linalg.lstsq(hessian, gradient, rcond=1e-14)[0]
        step *= min(1.0, 2.0 / max(1e-300, float(np.max(np.abs(step)))))
        before, shrink = values.sum(), 1.0
        while shrink > 1e-6 and (e * np.exp(2 * a @ (t + shrink * step))).sum() > before:
            shrink *= 0.5
        if shrink <= 1e-6:
            break
        t += shrink * step
        if float(np.max(np.abs(step))) < 1e-15:
            break
    x += np.append(t, 0.0)[of_class]


def _exponents(side: Side, of_class: IntArray, count: int) -> FloatArray:
    """(groups, families) sum of the coefficients that each family has in a group."""
    out = np.zeros((side.classes.shape[1], count + 1))
    for classes, coefficients in zip(side.classes, side.coefficient, strict=True):
        np.add.at(out, (np.arange(len(classes)), of_class[classes]), coefficients)
    return out[:, :count]


def _settle_degenerate(problem: _Problem, x: FloatArray) -> None:
    """Give classes with one empty side norm 1 on the other, from the settled neighbours outward."""
    settled = problem.settled
    family = np.append(problem.family, -1)
    while not settled.all():
        open_ = ~settled
        into, out = _one_sided(problem, x, open_)
        by_in, by_out = open_ & (into > 0), open_ & (into <= 0) & (out > 0)
        if not by_in.any() and not by_out.any():
            settled |= open_ & (family == family[open_].min())
            continue
        x[by_in] -= 0.5 * np.log(into[by_in])
        x[by_out] += 0.5 * np.log(out[by_out])
        settled |= by_in | by_out


def _one_sided(
    problem: _Problem, x: FloatArray, open_: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[FloatArray, FloatArray]:
    """Incoming and outgoing squared norms of open classes, counting only weights whose other end is settled."""
    size = len(x)
    into, out = np.zeros(size), np.zeros(size)
    weight = np.where(open_, 0.0, 1.0)
    for term in problem.terms:
        for side, other, matrix in ((term.rows, term.columns, term.matrix), (term.columns, term.rows, term.matrix.T)):
            wanted = open_[side.classes] & (side.coefficient != 0)
            if not wanted.any():
                continue
            across = np.exp(2 * other.log_factor(x)) * _weight(other, weight)
            strength = np.exp(2 * side.log_factor(x)) * (matrix @ across)
            for classes, coefficients, take in zip(side.classes, side.coefficient, wanted, strict=True):
                up = take & (coefficients > 0)
                down = take & (coefficients < 0)
                np.add.at(into, classes[up], strength[up])
                np.add.at(out, classes[down], strength[down])
    return into, out


def _unit(problem: _Problem, x: FloatArray) -> None:
    """Incoming norm 1, family by family in the order of the network; unfed classes by their outgoing norm."""
    family = np.append(problem.family, -1)
    settled = problem.settled
    for number in np.unique(problem.family):
        mine = (family == number) & ~settled
        into, _ = _one_sided(problem, x, mine)
        good = mine & (into > 0)
        x[good] -= 0.5 * np.log(into[good])
        settled |= good
    _settle_degenerate(problem, x)


def _equalize(problem: _Problem, x: FloatArray, live: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """Equal largest |weight| on both sides of each class (Nagel et al. 2019, arXiv 1906.04721, eq. 11), from x on."""
    weights_only = [t for t in problem.terms if t.dims > 1 or _is_only_input(problem, t, live)]
    weight = (live | problem.settled).astype(np.float64)
    family = np.append(problem.family, -1)
    for _ in range(_SWEEPS):
        worst = 0.0
        for number in np.unique(family[live]):
            mine = live & (family == number)
            pulls = _pulls(problem, x, mine, weight, np.maximum, 1.0, weights_only)
            ups = [(c, p) for c, p in pulls.items() if c > 0]
            downs = [(c, p) for c, p in pulls.items() if c < 0]
            if len(ups) != 1 or len(downs) != 1:
                continue
            (high, top), (low, bottom) = ups[0], downs[0]
            good = mine & (top > 0) & (bottom > 0)
            step = np.zeros(len(x))
            step[good] = np.log(bottom[good] / top[good]) / (high - low)
            if _couples_itself(problem, family, int(number), live):
                step *= 0.5
            x += step
            worst = max(worst, float(np.max(np.abs(step), initial=0.0)))
        if worst < 1e-12:
            return


def _is_only_input(problem: _Problem, term: Coupling, live: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    """A vector counts as a range only where no weight feeds its classes (γ behind a batch norm)."""
    classes = term.rows.classes[term.rows.coefficient > 0]
    fed = {
        int(c)
        for other in problem.terms
        if other.dims > 1
        for side in (other.rows, other.columns)
        for c in side.classes[side.coefficient > 0]
    }
    return bool(len(classes)) and not fed.intersection(int(c) for c in classes)
