"""Many networks moved at once go where one network moved alone goes, and keep their functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.reference import evaluate, random_inputs
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import from_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.moves import DRAWS, OrbitMove, drawn, has, moves_for
from nfn_cli.train.orbit import acted, moved
from tests.symmetry.networks import ALL

ROWS = 3


def stacked(kind: str) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """One architecture with ROWS different sets of weights."""
    made = [ALL[kind](seed) for seed in range(ROWS)]
    network = made[0][0]
    tensors = {name: np.stack([tensors[name] for _, tensors in made]) for name in made[0][1]}
    return network, find_symmetry([network]), tensors


@pytest.mark.parametrize("kind", list(ALL))
@pytest.mark.parametrize("move", ["all", "uniform-scale"])
def test_rows_moved_together_equal_rows_moved_alone(kind: str, move: str) -> None:
    _, symmetry, tensors = stacked(kind)
    elements = drawn(symmetry, OrbitMove(move, 8.0), ROWS, np.random.default_rng(1))
    together = acted(symmetry, tensors, elements, np.float64)
    for row in range(ROWS):
        single = {name: array[row] for name, array in tensors.items()}
        alone = TransformedTensors(single, {}, symmetry, elements.row(row))
        for name in tensors:
            np.testing.assert_allclose(together[name][row], alone[name], rtol=1e-14, atol=0, err_msg=name)


@pytest.mark.parametrize("kind", list(ALL))
@pytest.mark.parametrize("move", list(DRAWS))
def test_every_draw_is_an_element_of_the_group(kind: str, move: str) -> None:
    network = ALL[kind](0)[0]
    symmetry = find_symmetry([network])
    elements = drawn(symmetry, OrbitMove(move, 4.0 if "scale" in move else 1.0), ROWS, np.random.default_rng(0))
    flat = [elements.row(row) for row in range(ROWS)]
    for element in flat:
        back = to_flat(symmetry, from_flat(symmetry, element))  # refuses what is no element
        assert np.array_equal(back.permutation, element.permutation)
    parts = np.concatenate([elements.permutation, elements.scale, elements.sign, elements.shift], axis=1)
    if not has(symmetry, move):
        assert (parts == parts[0]).all()
        assert (elements.permutation == np.arange(symmetry.units)).all()


@pytest.mark.parametrize("kind", ["mlp-relu", "mlp-tanh", "mlp-sin", "cnn-relu", "grouped-relu", "residual-tanh"])
def test_functions_are_kept_by_every_move_of_an_evaluation(kind: str) -> None:
    network, symmetry, tensors = stacked(kind)
    inputs = random_inputs(network.graph, 0)
    assert moves_for(symmetry)
    for move in moves_for(symmetry):
        after = moved(network.graph, symmetry, tensors, move, seed=2, dtype=np.float64)
        assert any(not np.array_equal(after[name], tensors[name]) for name in tensors), move
        for row in range(ROWS):
            old, new = (
                evaluate(network.graph, {n: t[row] for n, t in some.items()}, inputs)[0] for some in (tensors, after)
            )
            assert np.max(np.abs(new - old)) < 1e-8 * np.max(np.abs(old)), move


def test_the_test_of_functions_can_fail() -> None:
    network, symmetry, tensors = stacked("mlp-relu")
    after = moved(network.graph, symmetry, tensors, OrbitMove("uniform-scale", 10.0), seed=0, dtype=np.float64)
    after["layers.0.bias"] = tensors["layers.0.bias"]
    old, new = (
        evaluate(network.graph, {n: t[0] for n, t in s.items()}, random_inputs(network.graph, 0))[0]
        for s in (tensors, after)
    )
    assert np.max(np.abs(new - old)) > 1e-3 * np.max(np.abs(old))


def test_a_group_offers_the_moves_it_has() -> None:
    def kinds(name: str) -> set[str]:
        return {move.kind for move in moves_for(find_symmetry([ALL[name](0)[0]]))}

    assert kinds("mlp-relu") == {"uniform-scale", "permutation"}
    assert kinds("mlp-tanh") == {"sign", "permutation"}
    assert kinds("mlp-sin") == {"sign", "phase", "permutation"}
    assert kinds("mlp-gelu") == {"permutation"}
    assert kinds("grouped-tanh") == {"sign", "permutation", "group-exchange"}


def test_uniform_scales_lie_between_one_and_the_largest_and_each_row_has_its_own() -> None:
    symmetry = find_symmetry([ALL["mlp-relu"](0)[0]])
    scale = drawn(symmetry, OrbitMove("uniform-scale", 1e4), 200, np.random.default_rng(0)).scale
    assert scale.min() >= 1.0
    assert 9e3 < scale.max() <= 1e4
    assert len(np.unique(scale)) == scale.size


def test_results_are_float32_and_settled_by_the_seed() -> None:
    network, symmetry, tensors = stacked("mlp-relu")
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    move = OrbitMove("uniform-scale", 100.0)
    first, second, other = (moved(network.graph, symmetry, single, move, seed=seed) for seed in (5, 5, 6))
    assert all(array.dtype == np.float32 for array in first.values())
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["layers.0.weight"], other["layers.0.weight"])


def test_a_small_share_leaves_most_units_in_place() -> None:
    symmetry = find_symmetry([ALL["mlp-tanh"](0)[0]])
    elements = drawn(symmetry, OrbitMove("permutation", 0.01), 50, np.random.default_rng(0))
    moved_units = (elements.permutation != np.arange(symmetry.units)).sum(axis=1)
    assert moved_units.max() == 2 * len(symmetry.unit_sets)


def test_tensors_that_do_not_fit_the_graph_and_unknown_moves_are_refused() -> None:
    network, symmetry, tensors = stacked("mlp-relu")
    cut = tensors | {"layers.0.weight": tensors["layers.0.weight"][:, :2]}
    with pytest.raises(Refused, match=r"layers\.0\.weight"):
        moved(network.graph, symmetry, cut, OrbitMove("sign", 1.0), seed=0)
    with pytest.raises(WrongUsage, match="known: permutation"):
        moved(network.graph, symmetry, tensors, OrbitMove("rotation", 1.0), seed=0)
