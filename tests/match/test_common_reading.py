"""A file that tells only weights against one that tells strides and pooling: compared as far as neither contradicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint, Hints
from nfn_cli.errors import Refused
from nfn_cli.graph import NameOptions
from nfn_cli.graph.from_names import networks_from_names
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.match.align import align
from nfn_cli.match.common_reading import common_reading
from nfn_cli.match.diff import diff
from nfn_cli.match.equivalent import equivalent, paired
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry

Tensors = dict[str, np.ndarray]
_CONV = {"out_axis": 0, "in_axis": 1, "stride": [2, 2], "padding": [0, 0]}
_LINEAR = {"out_axis": 0, "in_axis": 1}


def tensors(seed: int, positions: int = 1, norm: bool = False) -> Tensors:
    draw = np.random.default_rng(seed).standard_normal
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (5, 2, 3, 3), "0.bias": (5,)}
    if norm:
        shapes |= {f"1.{role}": (5,) for role in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"4.weight": (6, 5, 3, 3), "4.bias": (6,), "7.weight": (3, 6 * positions), "7.bias": (3,)}
    found = {name: np.float32(draw(shape)) for name, shape in shapes.items()}
    return {n: np.abs(a) + np.float32(0.3) if n.endswith("running_var") else a for n, a in found.items()}


def told(weights: Tensors, function: str, between: list[Op], before_head: list[Op], behind: list[Op]) -> Network:
    """The network of `tensors` as an exported graph says it."""
    ops: list[Op] = []

    def add(kind: str, roles: dict[str, str], attributes: dict[str, object]) -> None:
        value = ops[-1].output if ops else "image"
        ops.append(Op(kind, (value,), f"t{len(ops)}", roles, attributes))

    add("conv", {"weight": "0.weight", "bias": "0.bias"}, _CONV)
    if "1.weight" in weights:
        roles = {role: f"1.{role}" for role in ("weight", "bias", "running_mean", "running_var")}
        add("batch_norm", roles, {"eps": 1e-3})
    add("pointwise", {}, {"function": function, "shape": [2, 5, 15, 15]})
    for op in between:
        add(op.kind, {}, dict(op.attributes))
    add("conv", {"weight": "4.weight", "bias": "4.bias"}, _CONV)
    add("pointwise", {}, {"function": function})
    for op in before_head:
        add(op.kind, {}, dict(op.attributes))
    add("linear", {"weight": "7.weight", "bias": "7.bias"}, _LINEAR)
    for op in behind:
        add(op.kind, {}, dict(op.attributes))
    shapes = {name: array.shape for name, array in weights.items()}
    graph = Graph((GraphInput("image", (2, 2, 31, 31)),), tuple(ops), (ops[-1].output,), shapes)
    return Network("", "cnn", graph, (function,), "the exported graph")


def step(kind: str, **attributes: object) -> Op:
    return Op(kind, ("",), "", {}, attributes)


MEAN = [step("spatial_mean")]
MAX = step("max_pool", kernel=[2, 2], stride=[2, 2])
SOFTMAX = step("softmax", axis=1, shape=[2, 3])


def named(weights: Tensors, function: str, **how: str) -> Network:
    checkpoint = Checkpoint("b", "safetensors", weights, hints=Hints())
    (network,) = networks_from_names(checkpoint, NameOptions(activation=function, **how))
    return network


def moved(network: Network, weights: Tensors, seed: int) -> Tensors:
    symmetry = find_symmetry([network])
    view = TransformedTensors(weights, {}, symmetry, random_flat(symmetry, seed, scales=(0.1, 10.0)))
    return {name: np.array(view[name]) for name in view}


def sides(one: Tensors, other: Tensors) -> tuple[Checkpoint, Checkpoint]:
    return Checkpoint("a", "pt2", one), Checkpoint("b", "safetensors", other)


@pytest.mark.parametrize("between", [[], [MAX]], ids=["no pooling", "max pooling"])
@pytest.mark.parametrize("function", ["relu", "tanh"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("turned", [False, True], ids=["graph first", "weights first"])
def test_a_moved_copy_is_found_through_a_file_of_weights(
    between: list[Op], function: str, norm: bool, turned: bool
) -> None:
    weights = tensors(1, norm=norm)
    graph, names = told(weights, function, between, MEAN, [SOFTMAX]), named(weights, function)
    copy = moved(common_reading([graph], [names]).right[0], weights, 3)
    ends = (*sides(weights, copy),)
    parts = ((ends[0], [graph]), (ends[1], [names]))
    one, other = parts[::-1] if turned else parts
    answer = equivalent(*one, *other)
    assert answer.equivalent, answer.reason
    assert {"strides", "pooling", "what follows the last layer"} <= set(answer.assumed)
    assert ("ε of norms" in answer.assumed) == norm
    found = diff(*one, *other)
    assert found.equivalent
    assert "strides" in found.notes[-1]
    done = align(*one, *other)
    assert done.distance < 1e-4
    assert "strides" in done.notes[0]
    weights["4.weight"][2, 1] *= 1.5
    assert not equivalent(*one, *other).equivalent


def test_the_group_is_one_of_both_readings() -> None:
    """tanh: behind max pooling no sign may be flipped, whichever file tells of it."""
    weights = tensors(2)
    graph, names = told(weights, "tanh", [MAX], MEAN, []), named(weights, "tanh")
    # as where the numbers of layers leave no room for pooling
    ops = tuple(
        replace(op, inputs=("v1",)) if op.inputs == ("v2",) else op for op in names.graph.ops if op.output != "v2"
    )
    names = replace(names, graph=replace(names.graph, ops=ops))

    def flipped(network: Network) -> set[str]:
        symmetry = find_symmetry([network])
        return {s.name for s in symmetry.unit_sets if s.families["sign"]}

    assert flipped(names) == {"0"}
    assert flipped(graph) == {"4"}
    for reading in (common_reading([graph], [names]), common_reading([names], [graph])):
        assert reading.joined
        assert flipped(reading.left[0]) == flipped(reading.right[0]) == set()


def test_epsilon_is_the_one_that_is_told() -> None:
    weights = tensors(3, norm=True)
    graph, names = told(weights, "relu", [], MEAN, []), named(weights, "relu")
    for reading in (common_reading([graph], [names]), common_reading([names], [graph])):
        for network in (*reading.left, *reading.right):
            assert [op.attributes["eps"] for op in network.graph.ops if op.kind == "batch_norm"] == [1e-3]


@pytest.mark.parametrize(
    ("graph", "how"),
    [
        (lambda w: told(w, "tanh", [], MEAN, []), {"function": "relu"}),
        (lambda w: told(w, "relu", [MAX], MEAN, []), {"function": "relu", "pooling": "average"}),
        (lambda w: told(w, "relu", [], [MAX, *MEAN], []), {"function": "relu", "pooling": "average"}),
        (lambda w: told(w, "relu", [], MEAN, [step("pointwise", function="tanh")]), None),
    ],
    ids=["another activation", "max told, average stated", "max before the head", "both tell"],
)
def test_what_is_contradicted_is_not_read_alike(graph, how: dict[str, str] | None) -> None:
    weights = tensors(4)
    other = told(weights, "relu", [], MEAN, []) if how is None else named(weights, how.pop("function"), **how)
    assert not common_reading([graph(weights)], [other]).joined
    left, right = sides(weights, weights)
    with pytest.raises(Refused):
        paired(left, [graph(weights)], right, [other])


@pytest.mark.parametrize(("order", "joined"), [("channel_outer", True), ("channel_inner", False)])
def test_positions_have_to_be_joined_in_one_order(order: str, joined: bool) -> None:
    weights = tensors(5, positions=4)
    graph = told(weights, "relu", [], [step("flatten", order=order, positions=4)], [])
    assert common_reading([graph], [named(weights, "relu")]).joined == joined
