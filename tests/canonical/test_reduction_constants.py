"""Constant units go into what can take them up; intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical.reduction import Reduced, ReduceOptions, reduce
from nfn_cli.canonical.reduction.intervals import find_bounds
from nfn_cli.canonical.reduction.layout import find_layout
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.graph.reference import evaluate

from ..symmetry.networks import ALL, Builder, Tensors, cnn, mlp

PLAIN = ReduceOptions()


def two_convs(padding: int, bias: bool = True, norm: bool = False) -> tuple[Network, Tensors]:
    """Channel 1 of the first convolution is the constant relu(0.7)."""
    b = Builder(0, [GraphInput("x", (None, 2, 8, 8))])
    x = b.act(b.conv("x", "a", 5, 2), "relu")
    roles = {"weight": b.tensor("b.weight", 4, 5, 3, 3)} | ({"bias": b.tensor("b.bias", 4)} if bias else {})
    x = b.op("conv", [x], roles, out_axis=0, in_axis=1, padding=padding)
    x = b.norm(x, "bn", 4) if norm else x
    network, tensors = b.network(b.head(b.act(x, "relu"), 4))
    tensors["a.weight"][1], tensors["a.bias"][1] = 0.0, 0.7
    return network, tensors


def answer(network: Network, tensors: Tensors, options: ReduceOptions = PLAIN) -> Reduced:
    result = reduce(Checkpoint("a file", "npz", tensors), [network], options)
    assert result.relative_change < 1e-9
    return result


def test_a_constant_goes_into_the_next_bias() -> None:
    network, tensors = two_convs(padding=0)
    (unit,) = answer(network, tensors).removed
    assert (unit.tensor, unit.index, unit.rule, unit.constant) == ("a.weight", 1, "constant", 0.7)


def test_a_constant_goes_into_the_mean_of_the_norm_behind_a_layer_without_bias() -> None:
    network, tensors = two_convs(padding=0, bias=False, norm=True)
    result = answer(network, tensors)
    assert len(result.removed) == 1
    assert not np.allclose(result.checkpoint.tensors["bn.running_mean"], tensors["bn.running_mean"])


@pytest.mark.parametrize(("padding", "bias", "said"), [(1, True, "padding"), (0, False, "no bias")])
def test_a_constant_that_nothing_can_take_up_stays_and_is_named(padding: int, bias: bool, said: str) -> None:
    network, tensors = two_convs(padding, bias)
    result = answer(network, tensors)
    assert result.removed == ()
    assert any(said in note and "b.weight" in note for note in result.notes)


def test_two_constants_before_a_padded_layer_become_one() -> None:
    network, tensors = two_convs(padding=1)
    tensors["a.weight"][3], tensors["a.bias"][3] = 0.0, 2.1
    (unit,) = answer(network, tensors).removed
    assert (unit.index, unit.rule) == (3, "duplicate")
    assert unit.factor == pytest.approx(3.0)


def test_a_constant_zero_goes_even_before_padding() -> None:
    network, tensors = two_convs(padding=1)
    tensors["a.bias"][1] = -0.7
    assert [unit.rule for unit in answer(network, tensors).removed] == ["constant"]


def test_gain_zero_of_a_norm_makes_a_unit_constant() -> None:
    network, tensors = cnn(0, "relu")
    tensors["bn1.weight"][4] = 0.0
    tensors["bn1.bias"][4] = 0.3
    (unit,) = answer(network, tensors).removed
    assert (unit.tensor, unit.index, unit.rule, unit.constant) == ("conv1.weight", 4, "constant", 0.3)
    tensors["bn1.weight"][4] = 1e-3
    assert answer(network, tensors).removed == ()


def off_and_on() -> tuple[Network, Tensors]:
    """For inputs in [−1, 1] unit 2 is always off; unit 4 might be on."""
    network, tensors = mlp(3, "relu")
    reach = np.abs(tensors["layers.0.weight"]).sum(axis=1)
    tensors["layers.0.bias"][2] = -1.01 * reach[2]
    tensors["layers.0.bias"][4] = -0.99 * reach[4]
    tensors["layers.1.bias"] += 10.0  # the next layer's units are out of the question
    return network, tensors


def test_units_that_a_stated_range_keeps_off_go() -> None:
    network, tensors = off_and_on()
    (unit,) = answer(network, tensors, ReduceOptions(input_range=(-1, 1))).removed
    assert (unit.index, unit.rule) == (2, "always-off")
    assert answer(network, tensors).removed == ()
    assert answer(network, tensors, ReduceOptions(input_range=(-1.1, 1.1))).removed == ()


@pytest.mark.parametrize(("function", "ends"), [("relu6", (0.0, 6.0)), ("hardtanh", (-1.0, 1.0)), ("leaky_relu", None)])
def test_units_that_the_range_keeps_at_an_end_are_constants(function: str, ends: tuple[float, float] | None) -> None:
    network, tensors = mlp(3, function)
    reach = np.abs(tensors["layers.0.weight"]).sum(axis=1)
    tensors["layers.0.bias"][[2, 4]] = [-8 - reach[2], 8 + reach[4]]
    tensors["layers.1.weight"] *= 0.01  # the next layer's units stay off both ends
    tensors["layers.1.bias"][:] = 0.5
    found = answer(network, tensors, ReduceOptions(input_range=(-1, 1))).removed
    assert [(unit.index, unit.rule, unit.constant) for unit in found] == (
        [] if ends is None else [(2, "always-off", ends[0]), (4, "always-off", ends[1])]
    )


@pytest.mark.parametrize("bounds", [(1.0, -1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_what_is_no_range_is_wrong_usage(bounds: tuple[float, float]) -> None:
    with pytest.raises(WrongUsage):
        ReduceOptions(input_range=bounds)


@pytest.mark.parametrize("kind", [kind for kind in ALL if not kind.startswith("normalized")])
def test_intervals_hold_all_values_that_come_up(kind: str) -> None:
    network, tensors = ALL[kind](4)
    low, high = -0.3, 0.8
    generator = np.random.default_rng(0)
    inputs = {}
    for entry in network.graph.inputs:
        shape = [(64 if axis == 0 else 6) if n is None else n for axis, n in enumerate(entry.shape)]
        corners = np.where(generator.random(shape) < 0.5, low, high)
        inputs[entry.name] = np.where(generator.random(shape) < 0.3, generator.uniform(low, high, shape), corners)
    found = find_bounds(network.graph, find_layout([network], {}), 0, tensors, low, high)
    checked = 0
    for op in network.graph.ops:
        if op.output not in found:
            continue
        graph = type(network.graph)(
            network.graph.inputs, network.graph.ops, (op.output,), network.graph.parameter_shapes
        )
        (values,) = evaluate(graph, tensors, inputs)
        bounds = found[op.output]
        others = tuple(axis for axis in range(values.ndim) if axis != values.ndim + bounds.axis)
        assert (values.min(axis=others) >= bounds.low).all()
        assert (values.max(axis=others) <= bounds.high).all()
        checked += 1
    assert checked > 2


def test_intervals_are_tight_for_one_layer() -> None:
    network, tensors = mlp(0, "relu")
    found = find_bounds(network.graph, find_layout([network], {}), 0, tensors, -2.0, 2.0)[network.graph.ops[0].output]
    assert np.allclose(found.high - tensors["layers.0.bias"], 2 * np.abs(tensors["layers.0.weight"]).sum(axis=1))
