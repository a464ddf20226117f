"""Products and powers: log-magnitudes and signs that are sums of others are found whole, and keep the function."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.canonical import CanonicalOptions
from nfn_cli.canonical.canonicalize import canonical_element
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import FlatElement, from_flat, random_flat, to_flat
from nfn_cli.symmetry.relations import Relation, expanded
from nfn_cli.symmetry.rules.arithmetic import product
from nfn_cli.symmetry.rules.registry import size
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.system import System

from .networks import Builder, Tensors


def bilinear(seed: int, left: str = "identity", right: str = "identity", bias: bool = True) -> tuple[Network, Tensors]:
    """(W x) ∘ (V x): both factors have magnitudes and signs of their own."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    factors = [b.act(b.linear("x", name, 5, 4, bias), f) for name, f in (("left", left), ("right", right))]
    return b.network(b.linear(b.op("mul", factors), "out", 3, 5), family="mlp")


def residual_product(seed: int) -> tuple[Network, Tensors]:
    """y + (W x) ∘ (V x): the sum ties the product to a magnitude of its own."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    product = b.op("mul", [b.linear("x", "left", 5, 4), b.linear("x", "right", 5, 4)])
    return b.network(b.linear(b.op("add", [b.linear("x", "skip", 5, 4), product]), "out", 3, 5), family="mlp")


def power_sum(seed: int) -> tuple[Network, Tensors]:
    """V x + (W x)²: c² on one side, c on the other."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    square = b.act(b.linear("x", "left", 5, 4), "square")
    return b.network(b.linear(b.op("add", [b.linear("x", "right", 5, 4), square]), "out", 3, 5), family="mlp")


def self_gate(seed: int) -> tuple[Network, Tensors]:
    """x + x ∘ g: the gate must stay as it is."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    hidden = b.act(b.linear("x", "stem", 5, 4), "relu")
    gate = b.act(b.linear("x", "gate", 5, 4), "relu")
    return b.network(b.linear(b.op("add", [hidden, b.op("mul", [hidden, gate])]), "out", 3, 5), family="mlp")


def spread_gate(seed: int) -> tuple[Network, Tensors]:
    """One number multiplies all units."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    hidden = b.act(b.linear("x", "stem", 5, 4), "relu")
    gate = b.act(b.linear("x", "gate", 1, 4), "relu")
    return b.network(b.linear(b.op("mul", [hidden, gate]), "out", 3, 5), family="mlp")


def siamese(seed: int) -> tuple[Network, Tensors]:
    """Two inputs through one shared trunk."""
    b = Builder(seed, [GraphInput("x", (None, 4)), GraphInput("y", (None, 4))])
    shared = {"weight": b.tensor("trunk.weight", 5, 4), "bias": b.tensor("trunk.bias", 5)}
    ends = [b.act(b.op("linear", [v], shared, out_axis=0, in_axis=1), "relu") for v in ("x", "y")]
    return b.network(b.linear(b.op("concat", ends, axis=1), "out", 3, 10), family="mlp")


def tied_autoencoder(seed: int) -> tuple[Network, Tensors]:
    """relu(W x) decoded by Wᵀ: the shared weight leaves no magnitude, a permutation only."""
    b = Builder(seed, [GraphInput("x", (None, 4))])
    hidden = b.act(b.linear("x", "code", 5, 4), "relu")
    return b.network(b.op("linear", [hidden], {"weight": "code.weight"}, out_axis=1, in_axis=0), family="mlp")


# network, (permutable units, magnitudes, signs) that it has
CASES = {
    "bilinear": (bilinear, (5, 10, 10)),
    "bilinear-relu-tanh": (lambda seed: bilinear(seed, "relu", "tanh"), (5, 5, 5)),
    "bilinear-tanh-tanh": (lambda seed: bilinear(seed, "tanh", "tanh"), (5, 0, 10)),
    "bilinear-sigmoid": (lambda seed: bilinear(seed, "relu", "sigmoid"), (5, 5, 0)),
    "residual-product": (residual_product, (5, 10, 10)),
    "power-sum": (power_sum, (5, 5, 5)),
    "self-gate": (self_gate, (5, 5, 0)),
    "spread-gate": (spread_gate, (6, 6, 0)),
    "siamese": (siamese, (5, 5, 0)),
    "tied-autoencoder": (tied_autoencoder, (5, 0, 0)),
}


def acted(tensors: Tensors, symmetry: Symmetry, flat: FlatElement) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, flat)
    return {name: np.asarray(view[name]) for name in view}


def classes(symmetry: Symmetry, kind: str) -> int:
    return len(np.unique(symmetry.classes[kind]))


@pytest.mark.parametrize("kind", CASES)
def test_sums_of_magnitudes_and_signs_are_found_whole(kind: str) -> None:
    make, expected = CASES[kind]
    symmetry = find_symmetry([make(0)[0]])
    permutable = sum(s.size for s in symmetry.unit_sets if s.permutable)
    assert (permutable, classes(symmetry, "scale"), classes(symmetry, "sign")) == expected


@pytest.mark.parametrize("kind", CASES)
def test_random_elements_keep_the_function_and_form_a_group(kind: str) -> None:
    network, tensors = CASES[kind][0](1)
    symmetry = find_symmetry([network])
    g, h = (from_flat(symmetry, random_flat(symmetry, seed)) for seed in (1, 2))
    moved = acted(tensors, symmetry, to_flat(symmetry, g))
    assert relative_change(outputs(network, tensors, 0), outputs(network, moved, 0)) < 1e-10
    assert max(np.max(np.abs(moved[n] - tensors[n])) for n in tensors) > 1e-3
    twice = acted(moved, symmetry, to_flat(symmetry, h))
    at_once = acted(tensors, symmetry, to_flat(symmetry, h.after(g)))
    assert max(np.max(np.abs(twice[n] - at_once[n])) for n in tensors) < 1e-9


@pytest.mark.parametrize("kind", CASES)
def test_the_canonical_form_is_one_per_orbit(kind: str) -> None:
    network, tensors = CASES[kind][0](2)
    symmetry = find_symmetry([network])

    def canon(weights: Tensors) -> Tensors:
        return acted(weights, symmetry, to_flat(symmetry, canonical_element(symmetry, weights, CanonicalOptions())))

    once = canon(tensors)
    assert relative_change(outputs(network, tensors, 0), outputs(network, once, 0)) < 1e-9
    for other in (canon(once), canon(acted(tensors, symmetry, random_flat(symmetry, 4, scales=(0.1, 10))))):
        assert max(np.max(np.abs(other[n] - once[n])) for n in once) < 1e-7


def test_a_free_gate_beside_its_own_argument_would_change_the_function() -> None:
    """Negative control: what `self_gate` pins must be pinned."""
    network, tensors = self_gate(0)
    moved = {name: array.copy() for name, array in tensors.items()}
    moved["gate.weight"] *= 2
    moved["gate.bias"] *= 2
    moved["out.weight"] /= 2
    assert relative_change(outputs(network, tensors, 0), outputs(network, moved, 0)) > 1e-3


def rank(matrix: np.ndarray, modulus: int) -> int:
    """The slow oracle: Gaussian elimination over the rationals or over GF(2)."""
    rows = [[Fraction(int(v)) if not modulus else int(v) % modulus for v in row] for row in matrix]
    found = 0
    for column in range(matrix.shape[1]):
        pivot = next((r for r in range(found, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for r in range(len(rows)):
            if r != found and rows[r][column]:
                times = rows[r][column] / rows[found][column] if not modulus else 1
                rows[r] = [a - times * b for a, b in zip(rows[r], rows[found], strict=True)]
                rows[r] = [v % modulus for v in rows[r]] if modulus else rows[r]
        found += 1
    return found


@settings(max_examples=200, deadline=None)
@given(data=st.data(), modulus=st.sampled_from([0, 2]))
def test_random_equations_are_solved(data: st.DataObject, modulus: int) -> None:
    count = data.draw(st.integers(2, 9))
    rows = data.draw(st.integers(1, 6))
    matrix = np.array(
        data.draw(st.lists(st.lists(st.sampled_from([0, 0, 1, -1, 2]), min_size=count, max_size=count),
                           min_size=rows, max_size=rows))
    )  # fmt: skip
    # node 0 stands for nothing, so the equations are about nodes 1 … count
    relation = Relation(np.tile(np.arange(1, count + 1)[:, None], (1, rows)), matrix.T.copy())
    pinned = np.zeros(count + 1, bool)
    pinned[0] = True
    solution = expanded(np.arange(count + 1), pinned, [relation], np.zeros(0, np.int64), modulus)
    free = np.unique(solution.node[solution.node > 0])
    values = np.zeros(count + 1, np.int64)
    values[free] = np.random.default_rng(0).integers(-50, 50, len(free))
    made = (solution.coefficient * np.where(solution.node > 0, values[solution.node], 0)).sum(axis=0)
    left = matrix @ made[1:]
    assert not (left % modulus if modulus else left).any()
    assert np.array_equal((made - values)[free] % (modulus or 1 << 40), np.zeros(len(free)))
    dimension = count - rank(matrix, modulus)
    assert len(free) <= dimension
    if modulus or not (np.abs(matrix) == 2).any():
        assert len(free) == dimension or modulus == 0


def test_equations_that_form_a_ring_are_eliminated() -> None:
    """a + b = c + d, c + a = d + b, … : no node stands alone in one equation."""
    node = np.array([[1, 2], [2, 3], [3, 4], [4, 1]])
    relation = Relation(node, np.array([[1, 1], [1, 1], [-1, -1], [-1, -1]]))
    solution = expanded(np.arange(5), np.arange(5) == 0, [relation], np.zeros(0, np.int64))
    assert len(np.unique(solution.node[solution.node > 0])) == 2


def test_an_equation_without_a_whole_solution_pins_what_it_holds() -> None:
    relation = Relation(np.array([[1], [2]]), np.array([[2], [-3]]))
    solution = expanded(np.arange(4), np.arange(4) == 0, [relation], np.zeros(0, np.int64))
    assert not solution.node[:, [1, 2]].any()
    assert solution.node[0, 3] == 3


def test_long_sums_are_held_still_rather_than_stored() -> None:
    node = np.arange(1, 21)[:, None]
    relation = Relation(node, np.where(node == 20, -1, 1))
    solution = expanded(np.arange(22), np.arange(22) == 0, [relation], np.zeros(0, np.int64))
    assert solution.depth == 1
    assert not solution.node[:, 1:21].any()
    assert solution.node[0, 21] == 21


@pytest.mark.parametrize("gate_first", [False, True])
def test_a_factor_spread_along_an_axis_without_units_takes_its_length(gate_first: bool) -> None:
    b = Builder(0, [GraphInput("x", (2, 4)), GraphInput("y", (2, 6))])
    gate = b.op("reshape", [b.linear("x", "gate", 1, 4)], shape=[2, 1])
    plain = b.op("reshape", [b.op("reshape", ["y"], shape=[2, 3, 2])], shape=[2, 6])
    y = b.op("mul", [gate, plain] if gate_first else [plain, gate])
    y = b.op("slice", [y], axis=1, start=2, stop=5)
    network, tensors = b.network(b.linear(y, "out", 3, 3), family="mlp")
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, 0))
    assert relative_change(outputs(network, tensors, 0), outputs(network, moved, 0)) < 1e-10


@pytest.mark.parametrize("order", [0, 1])
def test_a_product_has_the_length_of_its_longer_factor(order: int) -> None:
    system = System({})
    one, three = system.fresh(1), system.fresh(3)
    for pair, length in (
        ((one, 3), 3),
        ((three, 1), 3),
        ((one, three), 3),
        ((one, 1), 1),
        ((2, 1), 2),
        ((one, one), 1),
    ):
        assert size(product(*pair[:: 1 - 2 * order], system)) == length
