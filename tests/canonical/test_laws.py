"""canon(canon θ) = canon θ; canon(g·θ) = canon θ; f(canon θ) = f(θ): for every kind of network and every option."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical import SCALES, CanonicalOptions
from nfn_cli.canonical.canonicalize import canonical_element
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import FlatElement, identity, random_flat, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from ..symmetry.networks import ALL, Tensors, cnn, mlp


def acted(tensors: Tensors, symmetry: Symmetry, flat: FlatElement) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, flat)
    return {name: np.asarray(view[name]) for name in view}


def canon(network: Network, tensors: Tensors, options: CanonicalOptions) -> Tensors:
    symmetry = find_symmetry([network])
    return acted(tensors, symmetry, to_flat(symmetry, canonical_element(symmetry, tensors, options)))


def distance(left: Tensors, right: Tensors) -> float:
    return max(float(np.max(np.abs(left[n] - right[n])) / (1e-9 + np.max(np.abs(left[n])))) for n in left)


def partial_element(symmetry: Symmetry, options: CanonicalOptions, seed: int) -> FlatElement:
    """A random element of that part of the group which the options divide out."""
    g, e = random_flat(symmetry, seed, scales=(1e-3, 1e3)), identity(symmetry)
    scale = e.scale if options.scale == "none" else g.scale
    if options.scale == "pow2":
        absorbed = np.zeros(len(g.scale), bool)
        for actions in symmetry.actions.values():
            for action in actions:
                if action.exponent == 2:
                    absorbed[action.scale[action.scale >= 0]] = True
        scale = np.where(absorbed, 1.0, np.exp2(np.round(np.log2(g.scale))))
    signs = options.sign
    return FlatElement(
        g.permutation if options.order else e.permutation,
        scale,
        g.sign if signs else e.sign,
        g.shift if signs and options.scale != "pow2" else e.shift,
    )


OPTIONS = [
    *(CanonicalOptions(scale=scale) for scale in SCALES),
    CanonicalOptions(order=False),
    CanonicalOptions(sign=False),
    CanonicalOptions(scale="none", sign=False),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ALL)
def test_the_canonical_form_is_one_per_orbit(kind: str, options: CanonicalOptions) -> None:
    network, tensors = ALL[kind](11)
    symmetry = find_symmetry([network])
    once = canon(network, tensors, options)
    assert relative_change(outputs(network, tensors, 0), outputs(network, once, 0)) < 1e-9
    assert distance(once, canon(network, once, options)) < 1e-8
    moved = acted(tensors, symmetry, partial_element(symmetry, options, 5))
    assert distance(once, canon(network, moved, options)) < 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_that_is_a_single_column_keeps_its_order(seed: int) -> None:
    """A layer of one unit: the weight that reads it is a vector, and its one column carries a sign."""
    network, tensors = mlp(seed, "tanh", (3, 1, 5, 2))
    moved = acted(tensors, find_symmetry([network]), random_flat(find_symmetry([network]), seed))
    once = canon(network, tensors, CanonicalOptions())
    assert distance(once, canon(network, moved, CanonicalOptions())) < 1e-9


def test_a_large_kernel_of_one_position_has_a_form_in_any_order_of_axes() -> None:
    """Its first axis cannot be cut, however many entries lie behind it: (1, 1, in, out), as Keras keeps them."""
    axes = {"out_axis": 3, "in_axis": 2}
    shapes = {"a": (1, 1, 3, 600), "b": (1, 1, 600, 600), "c": (1, 1, 600, 2)}
    relu = {"function": "relu"}
    ops = (
        Op("conv", ("x",), "1", {"weight": "a"}, axes),
        Op("pointwise", ("1",), "2", {}, relu),
        Op("conv", ("2",), "3", {"weight": "b"}, axes),
        Op("pointwise", ("3",), "4", {}, relu),
        Op("conv", ("4",), "5", {"weight": "c"}, axes),
    )
    network = Network("", "cnn", Graph((GraphInput("x", (2, 3, 2, 2)),), ops, ("5",), shapes))
    random = np.random.default_rng(0)
    tensors = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    symmetry = find_symmetry([network])
    element = canonical_element(symmetry, tensors, CanonicalOptions())
    form = TransformedTensors(tensors, {}, symmetry, to_flat(symmetry, element))
    assert relative_change(outputs(network, tensors, 0), outputs(network, form, 0)) < 1e-10
    for made, read in (("a", "b"), ("b", "c")):
        into, out = (form[made] ** 2).sum((0, 1, 2)), (form[read] ** 2).sum((0, 1, 3))
        assert np.allclose(into, out)  # balanced, unit by unit


def test_a_network_off_the_orbit_has_another_form() -> None:
    network, tensors = mlp(0, "relu")
    other = {name: array.copy() for name, array in tensors.items()}
    other["layers.1.weight"][0, 0] *= 1.01
    assert distance(canon(network, tensors, CanonicalOptions()), canon(network, other, CanonicalOptions())) > 1e-5


def test_balanced_is_the_least_sum_of_squares() -> None:
    network, tensors = cnn(2, "relu", norm=False)
    symmetry = find_symmetry([network])
    best = canon(network, tensors, CanonicalOptions(order=False))
    least = sum(float(np.sum(array**2)) for array in best.values())
    for seed in range(5):
        element = random_flat(symmetry, seed, scales=(0.9, 1.1))
        element.permutation[:] = np.arange(symmetry.units)
        assert sum(float(np.sum(array**2)) for array in acted(best, symmetry, element).values()) > least


def test_balanced_agrees_with_a_slow_minimizer() -> None:
    from scipy.optimize import minimize

    network, tensors = mlp(4, "relu", (3, 4, 5, 2))
    symmetry = find_symmetry([network])

    def energy(x: np.ndarray) -> float:
        flat = identity(symmetry)
        flat.scale[:] = np.exp(x)
        return sum(float(np.sum(array**2)) for array in acted(tensors, symmetry, flat).values())

    slow = minimize(energy, np.zeros(9), method="BFGS", options={"gtol": 1e-9})
    best = canon(network, tensors, CanonicalOptions(order=False))
    assert sum(float(np.sum(array**2)) for array in best.values()) == pytest.approx(slow.fun, rel=1e-9)


def test_powers_of_two_are_bit_exact() -> None:
    network, tensors = cnn(3, "relu", norm=False)
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    form = canon(network, single, CanonicalOptions(scale="pow2", order=False))
    for before, after in zip(outputs(network, single, 0), outputs(network, form, 0), strict=True):
        assert np.array_equal(before, after)
    assert any(not np.array_equal(single[name], form[name]) for name in single)


def test_batch_norm_statistics_become_those_of_unit_variance() -> None:
    network, tensors = cnn(3, "relu")
    form = canon(network, tensors, CanonicalOptions())
    assert np.allclose(form["bn0.running_var"] + 1e-5, 1.0)
    assert (form["bn0.weight"] >= 0).all()


def test_phases_lie_in_half_a_period() -> None:
    network, tensors = mlp(0, "sin", omega=3.0)
    tensors["layers.0.bias"] *= 10
    form = canon(network, tensors, CanonicalOptions())
    assert (np.abs(form["layers.0.bias"]) <= np.pi / 6 + 1e-12).all()


@pytest.mark.parametrize("function", ["relu", "tanh"])
@pytest.mark.parametrize("dead", ["in", "out", "both", "twin"])
def test_degenerate_units_do_not_break_the_laws(function: str, dead: str) -> None:
    network, tensors = mlp(8, function)
    if dead in ("in", "both"):
        tensors["layers.0.weight"][2] = 0
        tensors["layers.0.bias"][2] = 0
    if dead in ("out", "both"):
        tensors["layers.1.weight"][:, 2] = 0
    if dead == "twin":
        tensors["layers.0.weight"][3] = tensors["layers.0.weight"][2]
        tensors["layers.0.bias"][3] = tensors["layers.0.bias"][2]
    symmetry = find_symmetry([network])
    options = CanonicalOptions()
    once = canon(network, tensors, options)
    assert relative_change(outputs(network, tensors, 0), outputs(network, once, 0)) < 1e-9
    assert distance(once, canon(network, once, options)) < 1e-8
    moved = acted(tensors, symmetry, random_flat(symmetry, 1, scales=(1e-2, 1e2)))
    assert distance(once, canon(network, moved, options)) < 1e-6


def test_units_whose_first_keys_meet_are_told_apart_by_further_keys() -> None:
    """20,000 units with two numbers each: many first keys agree within rounding."""
    network, tensors = mlp(5, "sigmoid", (1, 20000, 1))
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    symmetry = find_symmetry([network])
    moved = acted(single, symmetry, random_flat(symmetry, 3))
    left, right = canon(network, single, CanonicalOptions()), canon(network, moved, CanonicalOptions())
    assert all(np.array_equal(left[name], right[name]) for name in left if name != "layers.1.bias")
