"""match/steps.py: the exact steps that a search alternates: units of one set, signs of one family, scales of one family.

Each is the best move of its kind while everything else stays; `State.apply` refuses what would not be better. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nfn_cli.match.assignment import assigned_units
from nfn_cli.match.readings import Part, Readings
from nfn_cli.match.similarity import Similarity, similarity
from nfn_cli.match.state import State, by_class, single_classes
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FlatElement, FloatArray, identity
from nfn_cli.symmetry.solve import Action, Symmetry


def unit_move(
    state: State,
    readings: Readings,
    number: int,
    usable: Sequence[Action],
    others: Sequence[Action] = (),
    exchange: bool = False,
    given: IntArray | None = None,
) -> FlatElement:
    """Permutation, signs and phase counts of one set from the scores of all pairs.

    Args:
        usable, others: see `similarity`.
        exchange: whether runs of units that stay together may be exchanged as wholes.
        given: (n,) ours for each of theirs, if that is known already; then signs and phase counts only are sought.
    """
    unit_set = state.symmetry.unit_sets[number]
    scores = similarity(readings, number, state.ours, state.weights, usable, others)
    best: tuple[float, FlatElement] | None = None
    for flipped, parts in scores.under_shared():
        score = scores.best(parts)
        chosen = assigned_units(score, unit_set.block_size, exchange) if given is None else given
        value = float(score[chosen, np.arange(unit_set.size)].sum())
        if best is None or value > best[0]:
            best = value, _as_element(state.symmetry, number, scores, parts, chosen, flipped)
    return best[1] if best else identity(state.symmetry)


def _as_element(
    symmetry: Symmetry,
    number: int,
    scores: Similarity,
    parts: Mapping[Part, FloatArray],
    chosen: IntArray,
    flipped: frozenset[int],
) -> FlatElement:
    unit_set, move = symmetry.unit_sets[number], identity(symmetry)
    n = unit_set.size
    move.permutation[unit_set.start : unit_set.start + n] = chosen + unit_set.start
    if unit_set.block_size:
        _follow(symmetry, number, chosen, move)
    signs, shifts = scores.best_signs(parts, chosen)
    by_sign_class = np.ones(int(symmetry.classes["sign"].max(initial=-1)) + 1)
    by_sign_class[sorted(flipped)] = -1.0
    for row, family in enumerate(scores.families.own):
        by_sign_class[single_classes(symmetry, "sign", number, family)] = signs[row]
    move.sign[:] = by_class(symmetry, "sign", by_sign_class)
    if shifts.any():
        start = symmetry.starts["shift"][number]
        move.shift[start : start + n] = shifts
    return move


def _follow(symmetry: Symmetry, number: int, chosen: IntArray, move: FlatElement) -> None:
    """Sets whose runs belong to those of `number` exchange theirs the same way."""
    unit_set = symmetry.unit_sets[number]
    blocks = chosen.reshape(-1, unit_set.block_size)[:, 0] // unit_set.block_size
    for other in symmetry.unit_sets:
        if other is unit_set or not (other.permutable and other.block_size):
            continue
        if other.block_family == unit_set.block_family:
            moved = blocks[:, None] * other.block_size + np.arange(other.block_size)
            move.permutation[other.start : other.start + other.size] = moved.reshape(-1) + other.start


def sign_move(state: State, number: int, family: int, usable: Sequence[Action] | None = None) -> FlatElement:
    """Flip each sign of one family whose products with the other network's weights add up to less than 0."""
    symmetry, move = state.symmetry, identity(state.symmetry)
    mine = single_classes(symmetry, "sign", number, family)
    total = np.zeros(int(symmetry.classes["sign"].max(initial=-1)) + 1)
    padded = np.append(symmetry.classes["sign"], -1)
    for seen in state.touching[number] if usable is None else usable:
        product, _ = state.sums(seen)
        classes = np.concatenate(
            [padded[a.sign] for a in symmetry.actions[seen.tensor] if a.dim == seen.dim and a.signed]
            or [np.full((1, len(seen.unit)), -1)]
        )
        for row in classes:
            odd = (classes == row).sum(axis=0) % 2 == 1
            use = (row >= 0) & odd
            np.add.at(total, row[use], product[use])
    flips = np.ones(len(total))
    flips[mine[total[mine] < 0]] = -1.0
    move.sign[:] = by_class(symmetry, "sign", flips)
    return move


def scale_move(state: State, number: int, family: int) -> FlatElement:
    """The scales of one family that make the squared differences least: a polynomial in each scale, by Newton's method."""
    symmetry, move = state.symmetry, identity(state.symmetry)
    count = int(symmetry.classes["scale"].max(initial=-1)) + 1
    mine = np.zeros(count, bool)
    mine[single_classes(symmetry, "scale", number, family)] = True
    padded = np.append(symmetry.classes["scale"], -1)
    square: dict[int, FloatArray] = {}
    linear: dict[int, FloatArray] = {}
    for seen in state.touching[number]:
        actions = [a for a in symmetry.actions[seen.tensor] if a.dim == seen.dim and a.exponent]
        if not actions or not state.weights[seen.tensor]:
            continue  # what is not compared moves freely
        products, squares = state.sums(seen)
        for action in actions:
            for entries, powers in zip(padded[action.scale], action.power, strict=True):
                use = (entries >= 0) & np.append(mine, False)[entries] & (powers != 0)
                if action.exponent == 2:
                    mine[entries[use]] = False  # settled in closed form by the batch norm
                    continue
                for power in np.unique(powers[use]):
                    at, k = use & (powers == power), int(power) * action.exponent
                    np.add.at(square.setdefault(k, np.zeros(count)), entries[at], squares[at])
                    np.add.at(linear.setdefault(k, np.zeros(count)), entries[at], products[at])
    logs = np.zeros(count)
    logs[mine] = _least({k: (square[k][mine], linear[k][mine]) for k in square}, int(mine.sum()))
    move.scale[:] = by_class(symmetry, "scale", np.exp(logs))
    return move


def _least(terms: dict[int, tuple[FloatArray, FloatArray]], count: int) -> FloatArray:
    """(count,) the t that minimizes Σ_k square_k e^{2kt} − 2 linear_k e^{kt}, best of a grid and then Newton."""

    def value(t: FloatArray) -> FloatArray:
        powers = ((k, np.exp(k * t), square, linear) for k, (square, linear) in terms.items())
        return sum(((square * e - 2 * linear) * e for _, e, square, linear in powers), np.zeros_like(t))

    grid = np.linspace(-1.5, 1.5, 13)[:, None] + np.zeros(count)
    t = np.take_along_axis(grid, value(grid).argmin(axis=0)[None], axis=0)[0] if count else np.zeros(0)
    for _ in range(30):
        first, second = np.zeros(count), np.zeros(count)
        for k, (square, linear) in terms.items():
            single = linear * np.exp(k * t)
            double = square * np.exp(2 * k * t)
            first += 2 * k * (double - single)
            second += 2 * k * k * (2 * double - single)
        step = np.where(second > 0, -first / np.where(second > 0, second, 1.0), 0.0).clip(-0.1, 0.1)
        t = t + step
        if np.abs(step).max(initial=0.0) < 1e-13:
            break
    return np.where(value(t) < value(np.zeros(count)), t, 0.0)
