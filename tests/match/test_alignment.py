"""An element is found again from what it did; the search never makes things worse; what comes out computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.match.align import align
from nfn_cli.match.alignment import aligned
from nfn_cli.match.comparison import compared, cost, even_weights
from nfn_cli.match.frame import framed
from nfn_cli.match.state import State
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import FlatElement, random_flat, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from ..symmetry.networks import ALL, Tensors, cnn, mlp, residual


def acted(tensors: Tensors, symmetry: Symmetry, element: FlatElement) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, element)
    return {name: np.asarray(view[name]) for name in view}


def far(left: Tensors, right: Tensors) -> float:
    return max(float(np.max(np.abs(left[n] - right[n])) / (1e-300 + np.max(np.abs(right[n])))) for n in right)


def search(network: Network, one: Tensors, other: Tensors, **how):
    symmetry = find_symmetry([network])
    left, right = (framed(symmetry, tensors, list(one), dead=False) for tensors in (one, other))
    found = aligned(symmetry, left, right, even_weights(left.tensors, right.tensors), **how)
    return symmetry, found, right


@pytest.mark.parametrize("kind", ALL)
def test_what_an_element_did_is_found_from_the_weights_alone(kind: str) -> None:
    network, tensors = ALL[kind](7)
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, 5, scales=(1e-3, 1e3)))
    _, found, right = search(network, tensors, moved)
    assert far(acted(tensors, symmetry, to_flat(symmetry, found.element)), moved) < 1e-9
    assert compared(symmetry, found.ours, right.tensors).residual < 1e-9


@pytest.mark.parametrize("kind", ALL)
def test_the_objective_never_increases_between_unrelated_networks(kind: str) -> None:
    (network, one), (_, other) = ALL[kind](1), ALL[kind](2)
    symmetry, found, _ = search(network, one, other, restarts=1)
    assert (np.diff(found.trace) <= 1e-12 * found.trace[0]).all()
    assert found.objective == pytest.approx(found.trace[-1], rel=1e-9)
    moved = acted(one, symmetry, to_flat(symmetry, found.element))
    assert relative_change(outputs(network, one, 0), outputs(network, moved, 0)) < 1e-8


@pytest.mark.parametrize("kind", ALL)
def test_what_a_search_remembers_stays_true_as_it_moves(kind: str) -> None:
    (network, one), (_, other) = ALL[kind](1), ALL[kind](2)
    symmetry = find_symmetry([network])
    weights = even_weights(one, other)
    state = State(symmetry, {n: np.asarray(a, float) for n, a in one.items()}, other, weights)
    reads = [action for touching in state.touching for action in touching]
    for seed in range(3):
        for action in reads:
            state.sums(action)
        move = random_flat(symmetry, seed, scales=(0.5, 2.0))
        view = acted(one, symmetry, move)
        assert set(state.moved_by(move)) >= {n for n in one if not np.array_equal(view[n], one[n])}
        state.apply(move, only_better=False)
        assert state.trace[-1] == pytest.approx(cost(state.ours, other, weights))
        fresh = State(symmetry, state.ours, other, weights)
        for action in reads:
            remembered, found = state.sums(action), fresh.sums(action)
            assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(remembered, found, strict=True))


@pytest.mark.parametrize("kind", ["mlp-relu", "mlp-tanh", "cnn-tanh", "residual-relu", "grouped-relu", "mlp-sin"])
def test_unrelated_networks_come_closer_than_any_random_element_brings_them(kind: str) -> None:
    (network, one), (_, other) = ALL[kind](1), ALL[kind](2)
    symmetry, found, right = search(network, one, other, restarts=2)
    left = framed(symmetry, one, list(one), dead=False)
    weights = even_weights(left.tensors, right.tensors)
    tried = [
        cost(
            acted(left.tensors, symmetry, random_flat(symmetry, seed, scales=(1, 1), shifts=0)), right.tensors, weights
        )
        for seed in range(50)
    ]
    assert found.objective < min(tried)
    assert found.objective > 1e-3  # negative control: they are not related


def test_restarts_never_make_it_worse() -> None:
    (network, one), (_, other) = mlp(1, "tanh", (4, 12, 12, 3)), mlp(2, "tanh", (4, 12, 12, 3))
    values = [search(network, one, other, restarts=restarts)[1].objective for restarts in (0, 3, 6)]
    assert values == sorted(values, reverse=True)


def test_noise_is_seen_through() -> None:
    network, tensors = residual(3, "tanh")
    symmetry = find_symmetry([network])
    generator = np.random.default_rng(0)
    noisy = {
        name: array if name.endswith("var") else array + 0.03 * array.std() * generator.standard_normal(array.shape)
        for name, array in tensors.items()
    }
    element = random_flat(symmetry, 5, scales=(0.5, 2.0))
    _, found, _ = search(network, tensors, acted(noisy, symmetry, element))
    assert np.array_equal(to_flat(symmetry, found.element).permutation, element.permutation)


def checkpoint(tensors: Tensors, name: str) -> Checkpoint:
    return Checkpoint(name, "safetensors", tensors)


def test_align_keeps_the_function_and_approaches_the_other_network() -> None:
    (network, one), (_, other) = cnn(1, "relu"), cnn(2, "relu")
    done = align(checkpoint(one, "a"), [network], checkpoint(other, "b"), [network], restarts=1)
    assert done.relative_change <= done.tolerance < 1e-6
    assert done.objective < done.start
    new = {name: np.asarray(done.checkpoint.tensors[name]) for name in one}
    assert relative_change(outputs(network, one, 0), outputs(network, new, 0)) < 1e-9
    assert far(new, one) > 1e-2  # negative control: something happened


def test_kept_scales_move_units_and_signs_only_and_undo_what_did_just_that() -> None:
    network, tensors = residual(3, "tanh")
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, 5, scales=(1, 1), shifts=0))
    there = checkpoint(moved, "b"), [network]
    done = align(checkpoint(tensors, "a"), [network], *there, keep_scales=True)
    assert all((part.scale == 1.0).all() for part in done.element.sets.values())
    assert all(np.array_equal(done.checkpoint.tensors[name], moved[name]) for name in moved)  # bit by bit
    rescaled = acted(moved, symmetry, random_flat(symmetry, 6, scales=(2, 9), shifts=0))
    kept, free = (
        align(checkpoint(tensors, "a"), [network], checkpoint(rescaled, "c"), [network], keep_scales=keep)
        for keep in (True, False)
    )
    assert kept.distance > 1e-2  # negative control: scales are needed here
    assert free.distance < 1e-9


def test_single_precision_on_the_way_does_not_show_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    (network, one), (_, other) = mlp(1, "tanh", (9, 40, 40, 3)), mlp(2, "tanh", (9, 40, 40, 3))
    symmetry, double, _ = search(network, one, other)
    _, single, _ = search(network, one, other, single=0)
    assert single.objective == pytest.approx(double.objective, rel=1e-2)
    assert (np.diff(single.trace) <= 1e-12 * single.trace[0]).all()
    monkeypatch.setattr("nfn_cli.match.align._SINGLE", 0)
    moved = acted(one, symmetry, random_flat(symmetry, 5))
    done = align(checkpoint(one, "a"), [network], checkpoint(moved, "b"), [network])
    assert far({name: np.asarray(done.checkpoint.tensors[name]) for name in one}, moved) < 1e-9


def test_align_refuses_another_architecture_and_says_what_differs() -> None:
    (network, one), (wider, other) = mlp(1, "relu"), mlp(1, "relu", (5, 7, 8, 3))
    with pytest.raises(Refused, match=r"7×6|6×7|8×7"):
        align(checkpoint(one, "a"), [network], checkpoint(other, "b"), [wider])
    tanh, same = mlp(1, "tanh")
    with pytest.raises(Refused, match="tanh"):
        align(checkpoint(one, "a"), [network], checkpoint(same, "b"), [tanh])
