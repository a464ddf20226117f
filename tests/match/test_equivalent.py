"""equivalent: every member of the orbit, in any element type, is the same network; anything else is not."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.match.equivalent import Equivalence, equivalent
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry.networks import ALL, Builder, Tensors, mlp, normalized, residual
from .near_misses import near_misses


def moved(network: Network, tensors: Tensors, seed: int, scales: tuple[float, float] = (1e-3, 1e3)) -> Tensors:
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, seed, scales=scales))
    return {name: np.asarray(view[name]) for name in view}


def ask(network: Network, one: Tensors, other: Tensors, **how) -> Equivalence:
    left, right = (Checkpoint(name, "safetensors", tensors) for name, tensors in (("a", one), ("b", other)))
    return equivalent(left, [network], right, [network], **how)


def cast(tensors: Tensors, dtype) -> Tensors:
    return {name: array.astype(dtype) for name, array in tensors.items()}


@pytest.mark.parametrize("kind", ALL)
def test_members_of_an_orbit_are_related_and_near_misses_are_not(kind: str) -> None:
    network, tensors = ALL[kind](4)
    other = moved(network, tensors, 9)
    single = cast(tensors, np.float32), cast(other, np.float32)
    answer = ask(network, *single)
    assert answer.equivalent
    assert answer.output_difference is not None
    assert answer.output_difference < 1e-3
    for miss in near_misses(tensors, 1):
        answer = ask(network, miss, other)
        assert not answer.equivalent
        assert answer.reason == "not related by the group"
        assert answer.distance is not None
        assert answer.distance > 1e-8


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-tanh", "residual-relu", "grouped-relu", "mlp-sin"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_copies_in_half_precision_are_the_same_network(kind: str, dtype) -> None:
    network, tensors = ALL[kind](5)
    copy = cast(moved(network, cast(tensors, np.float32), 3, scales=(0.25, 4.0)), dtype)
    assert ask(network, tensors, copy).equivalent
    assert not ask(network, tensors, copy, tolerance=1e-6).equivalent
    _, stranger = ALL[kind](6)
    assert not ask(network, stranger, copy).equivalent


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        ["mlp-tanh", "mlp-sin", "cnn-relu", "cnn-tanh", "residual-relu", "grouped-relu", "normalized-tanh"]
    ),
    st.integers(0, 2**16),
    st.floats(-7.0, 0.0),
    st.sampled_from([np.float32, ml_dtypes.bfloat16]),
)
def test_rounding_is_no_difference_however_small_a_unit_is(kind: str, seed: int, size: float, dtype) -> None:
    network, tensors = ALL[kind](seed % 97)
    tensors = cast(tensors, np.float32)
    name = next(n for n in tensors if tensors[n].ndim > 1)
    tensors[name][seed % len(tensors[name])] *= np.float32(10.0**size)
    copy = cast(moved(network, tensors, seed, scales=(1e-2, 1e2)), dtype)
    assert ask(network, tensors, copy).equivalent


@pytest.mark.parametrize("by", [0.01, -0.01])
def test_a_changed_weight_of_a_small_unit_is_a_change(by: float) -> None:
    """Its outgoing weights are as large as others', so what feeds it counts."""
    network, tensors = mlp(3, "gelu", (4, 8, 6, 2))
    tensors["layers.0.weight"][2] *= 1e-6
    tensors["layers.0.bias"][2] *= 1e-6
    other = moved(network, tensors, 1)
    assert ask(network, cast(tensors, np.float32), cast(other, np.float32)).equivalent
    tensors["layers.0.weight"][2, 1] *= 1 + by
    answer = ask(network, cast(tensors, np.float32), cast(other, np.float32))
    assert not answer.equivalent
    assert answer.worst_tensor == "layers.0.weight"
    # measured by the whole tensor alone it is lost
    assert ask(network, cast(tensors, np.float32), cast(other, np.float32), tolerance=answer.tolerance).equivalent


def test_what_one_rounding_to_bfloat16_may_do_cannot_be_told_from_a_change() -> None:
    network, tensors = mlp(4, "relu", (6, 12, 12, 3))
    copy = cast(moved(network, cast(tensors, np.float32), 3, scales=(0.25, 4.0)), ml_dtypes.bfloat16)
    for by, equal in ((0.01, True), (0.1, False)):
        changed = {**tensors, "layers.1.weight": tensors["layers.1.weight"].copy()}
        row, column = np.unravel_index(np.abs(changed["layers.1.weight"]).argmax(), (12, 12))
        changed["layers.1.weight"][row, column] *= 1 + by
        assert ask(network, changed, copy).equivalent == equal


def test_the_witness_does_what_it_says() -> None:
    network, tensors = residual(1, "relu")
    other = moved(network, tensors, 2)
    answer = ask(network, tensors, other)
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, to_flat(symmetry, answer.element))
    assert all(np.allclose(view[name], other[name], rtol=1e-9, atol=1e-12) for name in other)


def test_the_tolerance_decides_about_networks_that_were_trained_on() -> None:
    network, tensors = mlp(1, "tanh", (6, 12, 12, 3))
    generator = np.random.default_rng(0)
    tuned = {n: a + 0.01 * a.std() * generator.standard_normal(a.shape) for n, a in moved(network, tensors, 1).items()}
    strict, loose = ask(network, tensors, tuned), ask(network, tensors, tuned, tolerance=0.5)
    assert (strict.equivalent, loose.equivalent) == (False, True)
    assert strict.distance == pytest.approx(0.01, rel=0.3)


def test_dead_units_are_not_compared() -> None:
    network, tensors = mlp(2, "relu")
    tensors["layers.2.weight"][:, 3] = 0.0
    other = moved(network, tensors, 4)
    generator = np.random.default_rng(1)
    (dead,) = np.flatnonzero((other["layers.2.weight"] == 0).all(axis=0))
    other["layers.1.weight"][dead] = generator.standard_normal(7)
    answer = ask(network, tensors, other)
    assert (answer.equivalent, answer.dead_left_out) == (True, True)
    other["layers.1.weight"][(dead + 1) % 6, 0] *= 1.01
    assert not ask(network, tensors, other).equivalent


def test_dead_units_that_a_norm_reads_are_compared() -> None:
    """Layer norm reads all units: what feeds one without outgoing weights matters."""
    network, tensors = normalized(1, "tanh")
    tensors["b.weight"][:, 2] = 0.0
    assert ask(network, tensors, moved(network, tensors, 3)).equivalent
    other = {**tensors, "a.weight": tensors["a.weight"].copy()}
    other["a.weight"][2] *= 2
    assert not ask(network, tensors, other).equivalent


def test_repeated_units_stand_in_for_each_other() -> None:
    network, tensors = mlp(3, "tanh", (4, 8, 6, 2))
    for p, q in ((1, 5), (2, 6)):
        tensors["layers.0.weight"][q], tensors["layers.0.bias"][q] = (
            tensors["layers.0.weight"][p],
            tensors["layers.0.bias"][p],
        )
    assert ask(network, tensors, moved(network, tensors, 8)).equivalent
    tensors["layers.1.weight"][:, 5] = tensors["layers.1.weight"][:, 1]
    assert ask(network, tensors, moved(network, tensors, 8)).equivalent


def test_equal_functions_of_unrelated_weights_are_told_so() -> None:
    """A repeated unit's outgoing weights shared out differently: no group element does that."""
    network, tensors = mlp(3, "tanh", (4, 8, 6, 2))
    tensors["layers.0.weight"][5] = tensors["layers.0.weight"][1]
    tensors["layers.0.bias"][5] = tensors["layers.0.bias"][1]
    other = {**tensors, "layers.1.weight": tensors["layers.1.weight"].copy()}
    other["layers.1.weight"][:, 1] += 0.7
    other["layers.1.weight"][:, 5] -= 0.7
    answer = ask(network, tensors, other)
    assert not answer.equivalent
    assert answer.reason == "not related by the group"
    assert answer.original_output_difference < 1e-12


def test_names_need_not_agree() -> None:
    network, tensors = mlp(1, "relu")
    b = Builder(0, [GraphInput("input", (None, 5))])
    x = b.act(b.linear("input", "first", 7, 5), "relu")
    other, names = b.network(b.linear(b.act(b.linear(x, "second", 6, 7), "relu"), "third", 3, 6), family="mlp")
    renamed = dict(zip(names, moved(network, tensors, 1).values(), strict=True))
    left, right = Checkpoint("a", "safetensors", tensors), Checkpoint("b", "npz", renamed)
    assert equivalent(left, [network], right, [other]).equivalent


def stored_the_other_way(network: Network, tensors: Tensors) -> tuple[Network, Tensors]:
    """Linear weights in × out, kernels with their positions first: the same network."""
    ops, shapes, turned = [], dict(network.graph.parameter_shapes), dict(tensors)
    for op in network.graph.ops:
        if "out_axis" in op.attributes:
            name, dimensions = op.parameters["weight"], tensors[op.parameters["weight"]].ndim
            turned[name] = np.moveaxis(tensors[name], (0, 1), (-1, -2))
            shapes[name] = turned[name].shape
            op = replace(op, attributes={**op.attributes, "out_axis": dimensions - 1, "in_axis": dimensions - 2})
        ops.append(op)
    return replace(network, graph=replace(network.graph, ops=tuple(ops), parameter_shapes=shapes)), turned


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-tanh", "residual-relu"])
def test_weights_may_be_stored_in_another_order_of_axes(kind: str) -> None:
    network, tensors = ALL[kind](4)
    other, turned = stored_the_other_way(network, moved(network, tensors, 9))
    pairs = (network, tensors, other, turned), (other, turned, network, tensors)
    for left_network, left, right_network, right in pairs:
        one, two = Checkpoint("a", "safetensors", left), Checkpoint("b", "npz", right)
        assert equivalent(one, [left_network], two, [right_network]).equivalent
        for miss in near_misses(left, 1):
            near = Checkpoint("a", "safetensors", miss)
            assert not equivalent(near, [left_network], two, [right_network]).equivalent


def test_one_file_read_in_two_ways_is_no_answer() -> None:
    (network, tensors), (other, _) = ALL["cnn-relu-max"](1), ALL["cnn-relu"](1)
    graph = replace(other.graph, parameter_shapes=network.graph.parameter_shapes)
    twice = replace(network, graph=graph)
    with pytest.raises(Refused, match="--pooling"):
        equivalent(Checkpoint("a", "npz", tensors), [network], Checkpoint("b", "npz", tensors), [twice])


def test_other_architectures_are_not_related_and_the_reason_is_said() -> None:
    (network, tensors), (other, more) = mlp(1, "relu"), mlp(1, "tanh")
    left, right = Checkpoint("a", "npz", tensors), Checkpoint("b", "npz", more)
    answer = equivalent(left, [network], right, [other])
    assert (answer.equivalent, answer.residual) == (False, None)
    assert "relu" in answer.reason
    assert "tanh" in answer.reason


@pytest.mark.slow
@pytest.mark.parametrize("function", ["relu", "tanh"])
def test_wide_layers_are_recognised_and_their_near_misses_are_not(function: str) -> None:
    """2,048 and 1,024 units a layer in single precision, scales from 1e-3 to 1e3."""
    network, wide = mlp(1, function, (16, 2048, 1024, 10))
    tensors = cast(wide, np.float32)
    other = cast(moved(network, tensors, 9), np.float32)
    assert ask(network, tensors, other).equivalent
    for miss in near_misses(tensors, 1):
        assert not ask(network, miss, other).equivalent
