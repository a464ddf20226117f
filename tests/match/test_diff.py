"""diff names the units that changed, moved, came, went, died, split and merged, and no others, whatever the group did to both."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.match.diff import diff
from nfn_cli.match.diff_model import Difference
from nfn_cli.match.diff_pair import side_by_side
from nfn_cli.match.diff_reduction import as_given
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..canonical.widening import moved, widened
from ..symmetry.networks import ALL, Builder, Tensors, cnn, grouped, mlp, normalized
from .narrowing import without_units

KINDS = [
    "mlp-relu",
    "mlp-sigmoid",
    "mlp-sin",
    "cnn-tanh",
    "residual-relu",
    "concatenation-squared_relu",
    "depthwise-relu",
    "grouped-tanh",
]
# the first tensor that makes a set with units that may go, and which of them (of grouped ones, as many in each group)
CUTS = {
    "mlp-tanh": ("layers.1", (1, 3)),
    "cnn-relu": ("conv1", (2, 5)),
    "residual-relu": ("stem", (1, 4)),
    "concatenation-relu": ("right", (0, 2)),
    "depthwise-relu": ("a", (0, 3)),
    "grouped-relu": ("g", (1, 6, 11)),
    "normalized-tanh": ("a", (4,)),
}


def ask(one: tuple[Network, Tensors], other: tuple[Network, Tensors], **how) -> Difference:
    left, right = (Checkpoint(name, "npz", side[1]) for name, side in (("a", one), ("b", other)))
    return diff(left, [one[0]], right, [other[0]], **how)


def disguised(network: Network, tensors: Tensors, seed: int) -> tuple[Network, Tensors]:
    return network, moved(network, tensors, seed, scales=(1e-2, 1e2))


def found(answer: Difference) -> dict[str, int]:
    return {status: count for status, count in answer.counts().items() if count}


def different(answer: Difference) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (unit_set.name, unit.status, unit.units or unit.other_units)
        for unit_set in answer.unit_sets
        for unit in unit_set.units
        if unit.status != "same"
    ]


def cast(tensors: Tensors, dtype) -> Tensors:
    return {name: array.astype(dtype) for name, array in tensors.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_all_units_of_an_orbit_are_the_same_and_what_moved_is_known(kind: str) -> None:
    network, tensors = ALL[kind](3)
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, 5)
    answer = ask((network, tensors), disguised(network, tensors, 5))
    assert set(found(answer)) == {"same"}
    assert answer.equivalent
    assert answer.distance < 1e-9
    for unit_set, difference in zip(symmetry.unit_sets, answer.unit_sets, strict=True):
        to = element.permutation[unit_set.start : unit_set.start + unit_set.size] - unit_set.start
        assert {(unit.units[0], unit.other_units[0]) for unit in difference.units} == set(
            zip(to, range(len(to)), strict=True)
        )
        assert sum(unit.moved for unit in difference.units) == np.count_nonzero(to != np.arange(len(to)))


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-relu", "mlp-sin"])
def test_only_the_perturbed_unit_changed(kind: str) -> None:
    """Scales that least squares would spread over the neighbours stay where they were."""
    network, tensors = ALL[kind](3)
    name = next(name for name in tensors if name.endswith("1.weight") and tensors[name].ndim > 1)
    changed = {**tensors, name: tensors[name].copy()}
    changed[name][2] += 0.5 * tensors[name].std() * np.random.default_rng(0).standard_normal(tensors[name][2].shape)
    answer = ask((network, tensors), disguised(network, changed, 1))
    assert different(answer) == [(name.removesuffix(".weight"), "changed", (2,))]
    assert not answer.equivalent
    (unit,) = (unit for unit_set in answer.unit_sets for unit in unit_set.units if unit.status == "changed")
    assert unit.distance == pytest.approx(0.5, abs=0.4)
    assert {tensor.names[0] for tensor in answer.tensors if tensor.residual > answer.tolerance} >= {name}


def test_a_weight_no_unit_owns_is_found_in_its_tensor() -> None:
    network, tensors = cnn(1, "relu")
    other = {**tensors, "fc1.bias": tensors["fc1.bias"] * 1.01}
    answer = ask((network, tensors), disguised(network, other, 1))
    assert set(found(answer)) == {"same"}
    assert [t.names[0] for t in answer.tensors if t.residual > answer.tolerance] == ["fc1.bias"]
    assert not answer.equivalent


@pytest.mark.parametrize("kind", KINDS)
def test_units_that_were_split_are_named_with_their_parts(kind: str) -> None:
    network, tensors = ALL[kind](4)
    wide, more = widened(network, tensors, 2)
    answer = ask((network, tensors), disguised(wide, more, 3))
    assert set(found(answer)) == {"split"}
    assert all(len(unit.units) == 1 and len(unit.other_units) == 2 for s in answer.unit_sets for unit in s.units)
    assert max(unit.distance for s in answer.unit_sets for unit in s.units) < 1e-9


def test_units_that_were_merged_are_named_with_their_parts() -> None:
    network, tensors = cnn(4, "relu")
    wide, more = widened(network, tensors, 2)
    answer = ask(disguised(wide, more, 3), (network, tensors))
    assert set(found(answer)) == {"merged"}
    assert all(len(unit.units) == 2 and len(unit.other_units) == 1 for s in answer.unit_sets for unit in s.units)


@pytest.mark.parametrize(
    "kind", ["mlp-relu", "mlp-tanh", "mlp-gelu", "cnn-relu", "cnn-tanh", "concatenation-squared_relu"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_halves_that_were_tuned_apart_are_a_split_still(kind: str, turned: bool) -> None:
    network, tensors = ALL[kind](4)
    wide, more = widened(network, tensors, 2)
    generator = np.random.default_rng(0)
    tuned = {n: a * (1 + 0.01 * generator.standard_normal(a.shape)) for n, a in more.items()}
    sides = (network, tensors), disguised(wide, tuned, 3)
    answer = ask(*(sides[::-1] if turned else sides))
    assert set(found(answer)) == {"merged" if turned else "split"}
    assert all(unit.distance < 0.2 for s in answer.unit_sets for unit in s.units)
    assert not answer.equivalent


def test_of_two_halves_that_differ_neither_is_a_split() -> None:
    """Negative control: one incoming weight of one half is not the other's."""
    network, tensors = mlp(4, "tanh")
    wide, more = widened(network, tensors, 2)
    more["layers.0.weight"][0, 0] += 0.3
    answer = ask((network, tensors), disguised(wide, more, 3))
    assert answer.counts()["split"] == 12
    assert answer.counts()["added"] == 1


@pytest.mark.parametrize("kind", CUTS)
def test_units_that_went_are_named_and_the_others_are_the_same(kind: str) -> None:
    network, tensors = ALL[kind](3)
    layer, rows = CUTS[kind]
    narrow, fewer = without_units(network, tensors, {f"{layer}.weight": rows})
    answer = ask((network, tensors), disguised(narrow, fewer, 2))
    assert different(answer) == [(layer, "removed", (row,)) for row in rows]
    back = ask(disguised(narrow, fewer, 2), (network, tensors))
    assert sorted(different(back)) == [(layer, "added", (row,)) for row in rows]


def test_each_network_may_be_the_wider_one_in_another_layer() -> None:
    network, tensors = mlp(3, "relu", (5, 9, 8, 7, 3))
    one = without_units(network, tensors, {"layers.0.weight": (1, 2)})
    other = without_units(network, tensors, {"layers.1.weight": (0,), "layers.2.weight": (6,)})
    answer = ask(one, other)
    assert different(answer) == [
        ("layers.0", "added", (1,)),
        ("layers.0", "added", (2,)),
        ("layers.1", "removed", (0,)),
        ("layers.2", "removed", (6,)),
    ]


def cut_in_two(widths: tuple[int, int]) -> tuple[Network, Tensors]:
    """A layer whose units two branches share out."""
    first, whole = widths[0], sum(widths)
    b = Builder(1, [GraphInput("x", (None, 5))])
    x = b.linear("x", "a", whole, 5)
    y, z = b.act(b.part(x, 0, first), "relu"), b.act(b.part(x, first, whole), "relu")
    return b.network(b.linear(b.op("concat", [z, y], axis=1), "b", 3, whole), family="mlp")


def test_units_of_branches_are_matched_branch_by_branch() -> None:
    network, tensors = cut_in_two((4, 5))
    kept = np.array([0, 2, 3, 4, 5, 6, 8])  # of the first branch without 1, of the second without its 3
    fewer = {
        "a.weight": tensors["a.weight"][kept],
        "a.bias": tensors["a.bias"][kept],
        "b.weight": tensors["b.weight"][:, [0, 1, 2, 4, 5, 7, 8]],  # the second branch comes first there
        "b.bias": tensors["b.bias"],
    }
    narrow = cut_in_two((3, 4))[0]
    answer = ask((network, tensors), disguised(narrow, fewer, 1))
    assert [(status, units) for _, status, units in different(answer)] == [("removed", (1,)), ("removed", (3,))]
    with pytest.raises(Refused, match="widths"):
        ask((network, tensors), cut_in_two((2, 6)))


def test_widths_that_differ_crosswise_do_not_take_the_memory_of_their_product() -> None:
    one, other = mlp(1, "relu", (2, 4000, 2, 2)), mlp(1, "relu", (2, 2, 4000, 2))
    sides = [as_given(Checkpoint("x", "npz", tensors), [network]) for network, tensors in (one, other)]
    with pytest.raises(Refused, match="room for both"):
        side_by_side(*sides)


def test_every_unit_stands_in_exactly_one_record() -> None:
    (network, one), (wider, other) = mlp(1, "relu", (5, 7, 6, 3)), mlp(2, "relu", (5, 12, 4, 3))
    one["layers.1.weight"][:, 3] = 0.0
    other["layers.0.weight"][4], other["layers.0.bias"][4] = (
        2 * other["layers.0.weight"][7],
        2 * other["layers.0.bias"][7],
    )
    answer = ask((network, one), (wider, other))
    for unit_set in answer.unit_sets:
        for side, size in zip(("units", "other_units"), unit_set.sizes, strict=True):
            assert Counter(n for unit in unit_set.units for n in getattr(unit, side)) == Counter(range(size))
    assert not answer.equivalent


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-tanh", "grouped-relu"])
def test_a_unit_that_nothing_reads_any_more_died(kind: str) -> None:
    network, tensors = ALL[kind](3)
    first, second = [name for name in tensors if tensors[name].ndim > 1][:2]
    other = {**tensors, second: tensors[second].copy()}
    if kind.startswith("grouped"):
        other[second][:4, 1] = 0.0  # the second unit of the first group
    else:
        other[second][:, 1] = 0.0
    name = first.removesuffix(".weight")
    assert different(ask((network, tensors), disguised(network, other, 1))) == [(name, "died", (1,))]
    assert different(ask((network, other), disguised(network, tensors, 1))) == [(name, "revived", (1,))]
    both = ask((network, other), disguised(network, other, 1))
    assert different(both) == [(name, "dead", (1,))]
    assert both.equivalent


def test_a_unit_that_a_norm_still_reads_did_not_die() -> None:
    network, tensors = normalized(3, "tanh")
    other = {**tensors, "b.weight": tensors["b.weight"].copy()}
    other["b.weight"][:, 1] = 0.0
    assert set(found(ask((network, tensors), disguised(network, other, 1)))) == {"same"}


def test_repeated_units_that_share_out_otherwise_are_no_equal_weights() -> None:
    network, tensors = mlp(3, "tanh", (4, 8, 6, 2))
    tensors["layers.0.weight"][5], tensors["layers.0.bias"][5] = (
        tensors["layers.0.weight"][1],
        tensors["layers.0.bias"][1],
    )
    other = {**tensors, "layers.1.weight": tensors["layers.1.weight"].copy()}
    other["layers.1.weight"][:, 1] += 0.7
    other["layers.1.weight"][:, 5] -= 0.7
    answer = ask((network, tensors), (network, other))
    assert set(found(answer)) == {"same"}
    assert not answer.equivalent
    assert ask((network, tensors), disguised(network, tensors, 1)).equivalent


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_copies_in_half_precision_are_the_same(dtype) -> None:
    network, tensors = ALL["residual-relu"](5)
    copy = cast(moved(network, cast(tensors, np.float32), 3, scales=(0.25, 4.0)), dtype)
    answer = ask((network, tensors), (network, copy))
    assert set(found(answer)) == {"same"}
    assert answer.equivalent
    assert set(found(ask((network, tensors), (network, copy), tolerance=1e-6))) == {"changed"}


def test_strangers_have_nothing_in_common() -> None:
    (network, one), (_, other) = mlp(1, "relu"), mlp(2, "relu")
    answer = ask((network, one), (network, other))
    assert set(found(answer)) == {"changed"}
    assert 0.3 < answer.distance < 2


def test_where_every_unit_was_tuned_the_distance_says_by_how_much() -> None:
    network, tensors = cnn(2, "relu", norm=False)
    generator = np.random.default_rng(0)
    tuned = {n: a + 0.03 * a.std() * generator.standard_normal(a.shape) for n, a in tensors.items()}
    answer = ask((network, tensors), disguised(network, tuned, 4))
    assert set(found(answer)) == {"changed"}
    assert answer.distance == pytest.approx(0.03, rel=0.5)
    assert max(unit.distance for unit_set in answer.unit_sets for unit in unit_set.units) < 0.1


@pytest.mark.parametrize("kind", CUTS)
def test_a_network_laid_into_a_wider_one_computes_the_same(kind: str) -> None:
    if kind.startswith("normalized"):
        pytest.skip("a norm over all units reads empty ones too: laid out for matching only")
    network, tensors = ALL[kind](3)
    layer, rows = CUTS[kind]
    narrow, fewer = without_units(network, tensors, {f"{layer}.weight": rows})
    sides = [as_given(Checkpoint("x", "npz", t), [n]) for n, t in ((network, tensors), (narrow, fewer))]
    pair = side_by_side(*sides)
    laid = relative_change(outputs(narrow, fewer, 0), outputs(network, pair.right, 0))
    assert laid < 1e-12
    assert relative_change(outputs(narrow, fewer, 0), outputs(network, tensors, 0)) > 1e-3  # negative control


def test_names_need_not_agree() -> None:
    network, tensors = mlp(1, "relu")
    b = Builder(0, [GraphInput("input", (None, 5))])
    x = b.act(b.linear("input", "first", 9, 5), "relu")
    other, _ = b.network(b.linear(b.act(b.linear(x, "second", 6, 9), "relu"), "third", 3, 6), family="mlp")
    answer = ask((network, tensors), (other, b.tensors))
    assert [tensor.names for tensor in answer.tensors][:2] == [
        ("layers.0.weight", "first.weight"),
        ("layers.0.bias", "first.bias"),
    ]
    assert [unit_set.sizes for unit_set in answer.unit_sets] == [(7, 9), (6, 6)]


def test_more_than_widths_is_refused_with_what_differs() -> None:
    one = mlp(1, "relu")
    with pytest.raises(Refused, match="tanh"):
        ask(one, mlp(1, "tanh"))
    with pytest.raises(Refused, match=r"layers\.2"):
        ask(one, mlp(1, "relu", (5, 7, 6, 4)))
    with pytest.raises(Refused, match="inputs of different shapes"):
        ask(one, mlp(1, "relu", (6, 7, 6, 3)))
    with pytest.raises(Refused, match="operations"):
        ask(one, mlp(1, "relu", (5, 7, 6, 6, 3)))
    network, tensors = cnn(1, "relu")
    smaller = {**tensors, "conv1.weight": tensors["conv1.weight"][..., :1, :1]}
    shapes = {name: array.shape for name, array in smaller.items()}
    with pytest.raises(Refused, match=r"axis 2 of conv1\.weight"):
        ask((network, tensors), (replace(network, graph=replace(network.graph, parameter_shapes=shapes)), smaller))
    b = Builder(1, [GraphInput("x", (None, 2, None, None))])
    x = b.act(b.conv(b.act(b.conv("x", "a", 6, 2), "relu"), "g", 12, 6, groups=2), "relu")
    with pytest.raises(Refused, match="groups"):
        ask(grouped(1, "relu"), b.network(b.linear(b.op("spatial_mean", [x]), "fc", 3, 12)))


def test_what_cannot_be_compared_is_refused() -> None:
    network, tensors = mlp(1, "relu")
    with pytest.raises(Refused, match=r"b: layers\.1\.bias"):
        ask((network, tensors), (network, {**tensors, "layers.1.bias": np.full(6, np.nan)}))
    with pytest.raises(WrongUsage):
        ask((network, tensors), (network, tensors), tolerance=0.0)


def test_networks_that_cannot_be_run_are_compared_with_their_repeats() -> None:
    """Where names alone do not tell the strides, reduction cannot be shown to keep the function: it is not done."""
    network, tensors = cnn(3, "relu")
    ops = tuple(
        replace(op, kind="opaque", attributes={"shape": (None, 3), "reason": "test"}) for op in network.graph.ops[-1:]
    )
    opaque = replace(network, graph=replace(network.graph, ops=(*network.graph.ops[:-1], *ops)))
    tensors["conv0.weight"][1] = tensors["conv0.weight"][0]
    answer = ask((opaque, tensors), (opaque, tensors))
    assert set(found(answer)) == {"same"}
    assert "repeated units were not looked for" in answer.notes[0]
    assert not ask((network, tensors), (network, tensors)).notes
