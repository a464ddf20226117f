"""Every claimed group element keeps the function; products and inverses are those of a group action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nfn_cli.errors import Refused
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import GroupElement, from_flat, random_flat, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from .networks import ALL, Tensors, mlp


def acted(tensors: Tensors, symmetry: Symmetry, element) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, element)
    return {name: view[name] for name in view}


def distance(left: Tensors, right: Tensors) -> float:
    return max(float(np.max(np.abs(left[name] - right[name]))) for name in left)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_random_elements_keep_the_function(kind: str, seed: int) -> None:
    network, tensors = ALL[kind](seed)
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, seed, scales=(0.1, 10)))
    assert distance(moved, tensors) > 1e-3 or not symmetry.unit_sets
    assert relative_change(outputs(network, tensors, seed), outputs(network, moved, seed)) < 1e-10


@pytest.mark.parametrize("kind", ALL)
def test_elements_act_as_a_group(kind: str) -> None:
    network, tensors = ALL[kind](3)
    symmetry = find_symmetry([network])
    g, h = (from_flat(symmetry, random_flat(symmetry, seed)) for seed in (1, 2))
    one_by_one = acted(acted(tensors, symmetry, to_flat(symmetry, g)), symmetry, to_flat(symmetry, h))
    at_once = acted(tensors, symmetry, to_flat(symmetry, h.after(g)))
    assert distance(one_by_one, at_once) < 1e-10
    back = acted(acted(tensors, symmetry, to_flat(symmetry, g)), symmetry, to_flat(symmetry, g.inverse()))
    assert distance(back, tensors) < 1e-10


def test_one_wrong_entry_is_noticed() -> None:
    network, tensors = mlp(0, "relu")
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, 0)
    moved = acted(tensors, symmetry, element)
    moved["layers.1.weight"][0, 0] *= 1.01
    assert relative_change(outputs(network, tensors, 0), outputs(network, moved, 0)) > 1e-6


# (network, for each unit set: size, permutable, scales, signs, shifts a unit)
EXPECTED = {
    "mlp-relu": [(7, True, 1, 0, 0), (6, True, 1, 0, 0)],
    "mlp-tanh": [(7, True, 0, 1, 0), (6, True, 0, 1, 0)],
    "mlp-identity": [(7, True, 1, 1, 0), (6, True, 1, 1, 0)],
    "mlp-abs": [(7, True, 1, 1, 0), (6, True, 1, 1, 0)],
    "mlp-sin": [(7, True, 0, 1, 1), (6, True, 0, 1, 1)],
    "mlp-cos": [(7, True, 0, 1, 1), (6, True, 0, 1, 1)],
    "mlp-gelu": [(7, True, 0, 0, 0), (6, True, 0, 0, 0)],
    "cnn-relu": [(5, True, 2, 1, 0), (6, True, 2, 1, 0), (8, True, 1, 0, 0)],
    "cnn-tanh": [(5, True, 1, 2, 0), (6, True, 1, 2, 0), (8, True, 0, 1, 0)],
    "cnn-tanh-max": [(5, True, 0, 1, 0), (6, True, 0, 0, 0), (8, True, 0, 1, 0)],
    "residual-relu": [(6, True, 4, 3, 0), (5, True, 2, 1, 0), (5, True, 2, 1, 0)],
    "concatenation-relu": [(6, True, 1, 0, 0), (4, True, 1, 0, 0), (7, True, 1, 0, 0)],
    "grouped-relu": [(6, True, 1, 0, 0), (12, True, 1, 0, 0)],
    "normalized-tanh": [(6, True, 0, 2, 0)],
    "autoencoder-relu": [],
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_whole_group_is_found(kind: str) -> None:
    network, _ = ALL[kind](0)
    found = [
        (s.size, s.permutable, s.families["scale"], s.families["sign"], s.families["shift"])
        for s in find_symmetry([network]).unit_sets
    ]
    assert found == EXPECTED[kind]


def test_groups_of_a_convolution_are_exchanged_on_both_sides_or_not_at_all() -> None:
    network, _ = ALL["grouped-relu"](0)
    symmetry = find_symmetry([network])
    assert [(s.block_size, s.block_family) for s in symmetry.unit_sets] == [(2, 0), (4, 0)]
    element = from_flat(symmetry, random_flat(symmetry, 0))
    first = symmetry.unit_sets[0].name
    wrong = dict(element.sets)
    wrong[first] = replace(wrong[first], permutation=np.roll(np.arange(6), 2)[wrong[first].permutation])
    with pytest.raises(Refused, match="together"):
        to_flat(symmetry, GroupElement(wrong))


def test_units_of_different_groups_are_not_exchangeable() -> None:
    """Negative control: a permutation across groups changes the function."""
    network, tensors = ALL["grouped-relu"](0)
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, 0)
    element.permutation[:6] = [0, 2, 1, 3, 4, 5]
    moved = acted(tensors, symmetry, element)
    assert relative_change(outputs(network, tensors, 0), outputs(network, moved, 0)) > 1e-3
