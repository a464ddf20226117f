"""The claimed group is the whole group: an oracle that knows no rule finds as many scales, signs and permutations.

What it finds beyond the claim is written down here with its reason; a miss that is not is a failure, and so is one that is mended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.axis import Axis
from nfn_cli.symmetry.rules import registry
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.system import System

from . import patterns_of_amounts  # noqa: F401 — fills the table
from .brute_force import Moves, claimed_discrete, claimed_scale_dimension, discrete_symmetries, scale_dimension
from .networks import Tensors
from .patterns import PATTERNS, made

ATTENTION = "products of two computed matrices are opaque"
# pattern -> (dimensions that are not claimed at width 3, why)
MISSED_SCALES = {
    "attention": (9, ATTENTION),
}


def classes(symmetry: Symmetry) -> int:
    return len(set(symmetry.classes["scale"].tolist()))


@pytest.mark.parametrize("name", PATTERNS)
def test_all_scales_are_found(name: str) -> None:
    network, tensors = made(name, 3)
    symmetry = find_symmetry([network])
    claimed = claimed_scale_dimension(symmetry, tensors)
    assert scale_dimension(network.graph, tensors) - claimed == MISSED_SCALES.get(name, (0, ""))[0]


@pytest.mark.parametrize("name", PATTERNS)
def test_no_scale_is_counted_that_moves_nothing(name: str) -> None:
    network, tensors = made(name, 3)
    symmetry = find_symmetry([network])
    assert classes(symmetry) == claimed_scale_dimension(symmetry, tensors)


def test_false_statistics_would_give_a_batch_norm_one_more_scale_a_channel() -> None:
    network, tensors = made("batch_norm_before_relu", 3)
    true, any_statistics = (scale_dimension(network.graph, tensors, true_statistics=which) for which in (True, False))
    assert (true, any_statistics) == (6, 9)


def ends(graph: Graph) -> tuple[tuple[str, int], ...]:
    """Axes of weights that read the network's inputs or make its outputs: what stands there is given."""
    given = {entry.name for entry in graph.inputs}
    held = []
    for op in graph.ops:
        if op.kind in ("conv", "linear") and "weight" in op.parameters:
            if given & set(op.inputs):
                held.append((op.parameters["weight"], op.attributes["in_axis"]))
            if op.output in graph.outputs:
                held.append((op.parameters["weight"], op.attributes["out_axis"]))
                held += [(op.parameters["bias"], 0)] if "bias" in op.parameters else []
    return tuple(held)


def compared(network: Network, tensors: Tensors, moves: Moves) -> tuple[Any, Any]:
    found = discrete_symmetries(network.graph, tensors, moves, ends(network.graph))
    return found, claimed_discrete(find_symmetry([network]), tensors, moves)


BOTH, ORDERS, SIGNS = Moves(), Moves(signs=False), Moves(permutations=False)
SEARCHES = [
    *(
        (name, BOTH)
        for name in (
            "same_module_twice",
            "shared_between_branches",
            "transposed_depthwise",
            "auxiliary_head",
            "channels_as_output",
            "layer_norm_of_channels",
            "instance_norm",
            "instance_norm_without_gain",
            "rms_norm",
            "batch_norm_without_gain",
            "batch_norm_before_relu",
            "gated_linear_unit",
            "efficient_channel_attention",
            "spatial_attention",
            "spatial_gate",
            "linear_spatial_gate",
            "one_prelu_slope",
            "prelu_slopes",
            "hardswish",
            "adaptive_pools",
            "mean_over_positions",
            "blur",
            "normalized_inputs",
            "stochastic_depth",
            "channels_last",
            "broadcast_add",
            "degrees",
            "two_magnitudes_multiplied",
            "mean_over_batch",
        )
    ),
    *(
        (name, ORDERS)
        for name in (
            "residual_with_projection",
            "batch_normed_residual",
            "depthwise_multiplier",
            "shuffle_unit",
            "split_of_unequal_parts",
            "transposed",
            "group_norm_without_gain",
            "weight_standardization",
            "weight_standardization_with_gain",
            "computed_weight",
            "layer_scale",
            "convnext",
        )
    ),
    *(
        (name, SIGNS)
        for name in (
            "residual_with_projection",
            "depthwise_multiplier",
            "shuffle_unit",
            "pixel_shuffle",
            "pixel_unshuffle",
            "flattened",
            "flattened_by_reshape",
            "split_of_unequal_parts",
            "transposed",
            "transposed_groups",
            "group_norm",
            "group_norm_without_gain",
            "weight_standardization",
            "weight_standardization_with_gain",
            "computed_weight",
            "layer_scale",
        )
    ),
    ("attention", ORDERS),
    ("residual", ORDERS),
    ("residual", SIGNS),
    ("squeeze_excite", ORDERS),
    ("squeeze_excite", SIGNS),
    ("hard_squeeze_excite", ORDERS),
    ("hard_squeeze_excite", SIGNS),
    ("unknown_op", ORDERS),
    ("unknown_op", SIGNS),
]
# (pattern, moves) -> how many times as many the oracle finds, and why
MISSED_MOVES = {
    (
        "same_module_twice",
        BOTH,
    ): 2,  # a sign common to all channels may move from one axis of a tied weight to the other
    ("attention", ORDERS): 4,  # ATTENTION: units of queries with those of keys, and of values
}


@pytest.mark.parametrize(("name", "moves"), SEARCHES, ids=str)
def test_all_signed_permutations_are_found(name: str, moves: Moves) -> None:
    network, tensors = made(name, 2, bias=False)
    found, claimed = compared(network, tensors, moves)
    assert claimed.members <= found.members
    assert len(found) == MISSED_MOVES.get((name, moves), 1) * len(claimed)


# --- the oracle notices what is planted -------------------------------------------------------------------------------


def replaced(monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Op, Any, Any, System], Any]) -> None:
    """The rule of one kind of op, with what `change` makes of its answer."""
    rule = registry.RULES[kind]

    def planted(op: Op, inputs: Any, system: System) -> Any:
        return change(op, inputs, rule(op, inputs, system), system)

    monkeypatch.setitem(registry.RULES, kind, planted)


def pinned(*kinds: str) -> Callable[[Op, Any, Any, System], Any]:
    def change(op: Op, inputs: Any, out: Any, system: System) -> Any:
        for axis in out:
            system.pin(axis, *kinds)
        return out

    return change


def test_a_rule_that_pins_magnitudes_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, "pointwise", pinned("scale"))
    network, tensors = made("residual", 3)
    assert claimed_scale_dimension(find_symmetry([network]), tensors) < scale_dimension(network.graph, tensors)


@pytest.mark.parametrize("kind", ["unit", "sign"])
def test_a_rule_that_pins_units_or_signs_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    replaced(monkeypatch, "pointwise", pinned(kind))
    found, claimed = compared(*made("mean_over_positions", 2, bias=False), BOTH)
    assert claimed.members < found.members


def test_a_rule_that_forgets_to_pin_a_sign_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(op: Op, inputs: Any, system: System) -> Any:
        return inputs[0]

    monkeypatch.setitem(registry.RULES, "pointwise", forgetful)
    found, claimed = compared(*made("residual", 2, bias=False), SIGNS)
    assert found.members < claimed.members


def test_a_rule_that_forgets_to_pin_a_magnitude_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.RULES, "pointwise", lambda op, inputs, system: inputs[0])
    network, tensors = made("hardswish", 3)
    assert claimed_scale_dimension(find_symmetry([network]), tensors) > scale_dimension(network.graph, tensors)


def test_a_rule_that_forgets_to_tie_units_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def untied(op: Op, inputs: Any, out: Any, system: System) -> Any:
        return tuple(system.fresh(len(axis)) if isinstance(axis, Axis) else axis for axis in out)

    replaced(monkeypatch, "add", untied)
    found, claimed = compared(*made("residual", 2, bias=False), ORDERS)
    assert not claimed.members <= found.members
