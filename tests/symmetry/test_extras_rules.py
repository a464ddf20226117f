"""Which extras are found, that each keeps the function, and what takes them away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import log10
from typing import Any

import numpy as np
import pytest

from nfn_cli.graph.model import Graph, GraphInput
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.extras import Extra, applied, find_extras, survey
from nfn_cli.symmetry.solve import find_symmetry

from .extras_networks import CASES, Case, chain, images, layer_norm, plain_conv, pooled, residual, vectors
from .networks import ALL, Builder, mlp


def extras(case: Case, aliases: dict[str, str] | None = None) -> list[Extra]:
    network, tensors = case
    return find_extras(survey(network, [network], tensors, aliases or {}, find_symmetry([network], aliases)))


def dimensions(case: Case, aliases: dict[str, str] | None = None) -> dict[str, int]:
    count: Counter[str] = Counter()
    for extra in extras(case, aliases):
        count[extra.kind] += extra.dimension
    return dict(count)


def reflected_units(case: Case) -> int:
    return round(sum(extra.log10_order for extra in extras(case)) / log10(2))


def change(case: Case, moved: Any) -> float:
    network, tensors = case
    return relative_change(outputs(network, tensors, 0), outputs(network, moved, 0))


@pytest.mark.parametrize("name", CASES)
def test_extras_are_found_by_kind_and_dimension(name: str) -> None:
    make, expected = CASES[name]
    assert dimensions(make(0)) == expected


def sigmoid_units(seed: int = 0) -> Case:
    return mlp(seed, "sigmoid")


def mobile(seed: int = 0) -> Case:
    """relu6 before a depthwise convolution with zero padding, and before a 1 × 1 convolution and a batch norm."""
    b = images(seed)
    x = b.act(b.norm(b.conv("x", "a", 4, 1), "n", 4), "relu6")
    x = b.act(b.norm(b.conv(x, "dw", 4, 4, groups=4), "m", 4), "relu6")
    return pooled(b, b.norm(plain_conv(b, x, "p", 3, 4, k=1), "q", 3), 3)


def clipped(seed: int = 0) -> Case:
    b = vectors(seed, 3)
    x = b.op("clip", [b.linear("x", "a", 5, 3)], low=-0.5, high=2.0)
    return b.network(b.linear(x, "o", 2, 5))


def sloped(seed: int = 0) -> Case:
    """A slope for each channel, then one slope for all, behind and before grouped and flattened layers."""
    b = images(seed)
    x = b.op("pointwise", [b.conv("x", "a", 4, 1)], {"weight": b.tensor("s", 4)}, function="prelu")
    x = b.norm(b.conv(x, "c", 4, 4, groups=2), "n", 4)
    x = b.op("pointwise", [x], {"weight": b.tensor("t", 1)}, function="prelu")
    x = b.op("flatten", [b.op("pool", [x], size=(2, 2), statistic="average")])
    return b.network(b.linear(x, "o", 2, 16))


DISCRETE: dict[str, tuple[Callable[[], Case], int]] = {
    "sigmoid": (sigmoid_units, 13),
    "relu6": (mobile, 4),
    "clip": (clipped, 5),
    "prelu": (sloped, 4 + 1),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_reflections_are_found(name: str) -> None:
    make, units = DISCRETE[name]
    assert reflected_units(make()) == units


EVERYTHING: dict[str, Callable[[], Case]] = {
    **{name: (lambda make=make: make(0)) for name, (make, _) in CASES.items()},
    **{name: make for name, (make, _) in DISCRETE.items()},
    **{f"other-{name}": (lambda make=make: make(0)) for name, make in ALL.items()},
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_random_member_of_each_extra_keeps_the_function(name: str) -> None:
    case = EVERYTHING[name]()
    for extra in extras(case):
        moved = applied([extra], case[1], 1)
        assert change(case, moved) < 1e-9, extra.kind
        assert all(moved[tensor].shape == array.shape for tensor, array in case[1].items())
        assert any(not np.array_equal(moved[tensor], array) for tensor, array in case[1].items()), extra.kind
    assert change(case, applied(extras(case), case[1], 2)) < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_a_member_alters_no_other_tensors_than_it_names_or_norms_and_biases(name: str) -> None:
    case = CASES[name][0](0)
    for extra in extras(case):
        changed = extra.member(case[1], np.random.default_rng(0))
        weights = {tensor for tensor in changed if case[1][tensor].ndim > 1}
        assert weights <= set(extra.tensors)
        assert set(extra.tensors) <= set(case[1])


def test_members_do_not_write_into_the_tensors() -> None:
    for make in EVERYTHING.values():
        case = make()
        before = {name: array.copy() for name, array in case[1].items()}
        applied(extras(case), case[1], 0)
        assert all(np.array_equal(before[name], array) for name, array in case[1].items())


# ---- what takes them away


def observed(case: Case, position: int) -> Case:
    """The same network, one more of its values being an output."""
    network, tensors = case
    graph = network.graph
    seen = Graph(graph.inputs, graph.ops, (*graph.outputs, graph.ops[position].output), graph.parameter_shapes)
    return replace(network, graph=seen), tensors


def activated() -> Case:
    return mlp(0, "tanh", (3, 3, 3))


def padded_shift() -> Case:
    """A batch norm's β before a convolution with zero padding."""
    b = images(0)
    x = b.norm(b.conv("x", "a", 2, 1), "n", 2)
    return pooled(b, b.act(b.conv(x, "c", 3, 2), "tanh"), 3)


def unpadded_shift() -> Case:
    b = images(0)
    x = b.norm(b.conv("x", "a", 2, 1), "n", 2)
    return pooled(b, b.act(b.conv(x, "c", 3, 2, k=1), "tanh"), 3)


def depthwise_between() -> Case:
    b = images(0)
    x = b.conv(b.conv(b.conv("x", "a", 3, 1), "dw", 3, 3, groups=3), "c", 2, 3)
    return pooled(b, b.act(x, "tanh"), 2)


def gate() -> Case:
    """Squeeze and excitation: the sigmoid is multiplied."""
    b = images(0)
    x = b.act(b.conv("x", "a", 4, 1), "relu")
    g = b.act(b.conv(b.op("reduce", [x], axes=[2, 3], statistic="mean"), "g", 4, 4, k=1), "sigmoid")
    return pooled(b, b.op("mul", [x, g]), 4)


def added_sigmoids() -> Case:
    b = vectors(0, 3)
    x = b.op("add", [b.act(b.linear("x", "a", 4, 3), "sigmoid"), b.linear("x", "c", 4, 3)])
    return b.network(b.linear(b.act(x, "tanh"), "o", 2, 4))


def max_pooled_slopes() -> Case:
    b = images(0)
    x = b.op("pointwise", [b.conv("x", "a", 4, 1)], {"weight": b.tensor("s", 4)}, function="prelu")
    return pooled(b, b.op("max_pool", [x], kernel=2, stride=2), 4)


NONE_LEFT: dict[str, tuple[Case, Case, str]] = {
    # name: (a network with the extra, the network that has lost it, kind)
    "activation between": (chain(0, (3, 3, 3)), activated(), "linear-mixing"),
    "hidden value observed": (chain(0, (3, 3, 3)), observed(chain(0, (3, 3, 3)), 0), "linear-mixing"),
    "hidden bias observed": (chain(0, (3, 3, 3)), observed(chain(0, (3, 3, 3)), 0), "bias-before-linear"),
    "value before the norm observed": (
        CASES["layer-norm"][0](0),
        observed(CASES["layer-norm"][0](0), 0),
        "common-rows",
    ),
    "bias before the norm observed": (
        CASES["batch-norm"][0](0),
        observed(CASES["batch-norm"][0](0), 0),
        "bias-before-batch-norm",
    ),
    "softmax's input observed": (CASES["softmax"][0](0), observed(CASES["softmax"][0](0), -2), "bias-before-softmax"),
    "zero padding": (unpadded_shift(), padded_shift(), "bias-before-linear"),
    "depthwise between": (CASES["convolutions"][0](0), depthwise_between(), "linear-mixing"),
    "max pooling between": (CASES["average-pool"][0](0), CASES["max-pool"][0](0), "linear-mixing"),
    "space in the norm": (CASES["group-norm-units"][0](0), CASES["group-norm"][0](0), "common-rows"),
    "branches of different inputs": (residual(0, "conv"), CASES["joined"][0](0), "parallel-maps"),
    "something nonlinear on the stream": (CASES["stream"][0](0), CASES["stream-behind-tanh"][0](0), "rotation"),
}


@pytest.mark.parametrize("name", NONE_LEFT)
def test_what_breaks_a_symmetry_takes_the_extra_away(name: str) -> None:
    whole, broken, kind = NONE_LEFT[name]
    assert kind in dimensions(whole)
    assert kind not in dimensions(broken)


@pytest.mark.parametrize("make", [gate, added_sigmoids, max_pooled_slopes], ids=lambda make: make.__name__)
def test_units_are_not_reflected_where_readers_cannot_undo_it(make: Callable[[], Case]) -> None:
    assert reflected_units(make()) == 0


def test_the_claims_that_are_not_made_would_be_wrong() -> None:
    """The member of the network that has the symmetry, applied where something breaks it, changes the outputs."""
    whole, broken = CASES["layer-norm"][0](0), observed(CASES["layer-norm"][0](0), 0)
    for extra in extras(whole):
        assert change(whole, applied([extra], whole[1], 0)) < 1e-9
        if extra.kind in ("common-rows", "bias-before-layer-norm"):
            assert change(broken, applied([extra], broken[1], 0)) > 1e-3


def test_tensors_with_another_use_are_not_moved() -> None:
    case = chain(0, (3, 3, 3))
    assert dimensions(case)
    assert dimensions(case, {"l1.weight": "l0.weight"}).keys() == {"bias-before-linear"}
    assert not dimensions(case, {"l1.weight": "l0.weight", "l1.bias": "l0.bias"})


def test_channels_that_a_factor_0_kills_are_left_out_of_mixing() -> None:
    network, tensors = CASES["inverted-residual"][0](0)
    assert dimensions((network, tensors))["linear-mixing"] == 2
    tensors["n.weight"][0] = 0.0
    case = (network, tensors)
    assert dimensions(case).get("linear-mixing", 0) == 0
    assert change(case, applied(extras(case), tensors, 0)) < 1e-9


def test_a_bias_behind_a_factor_0_is_free() -> None:
    network, tensors = CASES["layer-scale"][0](0)
    tensors["gamma"][2] = 0.0
    case = (network, tensors)
    assert dimensions(case) == {"added-biases": 3, "unread-bias": 1}
    assert change(case, applied(extras(case), tensors, 0)) < 1e-9


def test_phase_shifts_are_not_counted_again() -> None:
    assert not extras(mlp(0, "sin", omega=3.0))


def test_low_rank_mixing_needs_no_square_of_the_width() -> None:
    """20,000 units between two linear layers: a full matrix would take 3 GB."""
    n = 20_000
    b = Builder(0, [GraphInput("x", (None, 2))])
    x = b.linear(b.linear("x", "a", n, 2), "o", 2, n)
    case = b.network(x)
    assert dimensions(case)["linear-mixing"] == n
    assert change(case, applied(extras(case), case[1], 0)) < 1e-9


def test_fixed_batch_and_unknown_positions_are_taken_on_the_safe_side() -> None:
    """A flatten whose number of positions nobody knows lets no constant through."""
    b = Builder(0, [GraphInput("x", (None, 1, None, None))])
    x = b.op("flatten", [b.conv("x", "a", 2, 1)])
    case = b.network(b.linear(x, "o", 2, 72))
    assert dimensions(case) == {}


def test_layer_norm_without_bias_needs_no_bias_behind_it() -> None:
    b = vectors(0, 3)
    x = layer_norm(b, b.act(b.linear("x", "a", 4, 3), "tanh"), "n", 4, bias=False)
    case = b.network(b.linear(x, "o", 2, 4, bias=False))
    assert dimensions(case) == {"unreached-weights": 2}
    assert change(case, applied(extras(case), case[1], 0)) < 1e-9


def with_unknown_epsilon(case: Case) -> Case:
    network, tensors = case
    ops = tuple(
        replace(op, attributes={**op.attributes, "eps_known": False}) if op.kind == "batch_norm" else op
        for op in network.graph.ops
    )
    return replace(network, graph=replace(network.graph, ops=ops)), tensors


def with_other_epsilon(case: Case) -> Case:
    network, tensors = case
    ops = tuple(
        replace(op, attributes={**op.attributes, "eps": 0.3}) if op.kind == "batch_norm" else op
        for op in network.graph.ops
    )
    return replace(network, graph=replace(network.graph, ops=ops)), tensors


@pytest.mark.parametrize("name", ["batch-norm", "residual-projected", "repvgg", "inverted-residual", "preactivated"])
def test_where_epsilon_is_not_known_only_what_holds_for_every_epsilon_is_claimed(name: str) -> None:
    case = with_unknown_epsilon(CASES[name][0](0))
    found = dimensions(case)
    assert not {"variance-against-weight", "mean-against-bias", "parallel-maps", "linear-mixing"} & set(found)
    moved = applied(extras(case), case[1], 0)
    assert change(case, moved) < 1e-9
    assert change(with_other_epsilon(case), moved) < 1e-9


def test_the_same_with_epsilon_known_would_be_wrong_for_another() -> None:
    case = CASES["batch-norm"][0](0)
    assert change(with_other_epsilon(case), applied(extras(case), case[1], 0)) > 1e-3
