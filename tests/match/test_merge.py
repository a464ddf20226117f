"""Merged networks: what is averaged stands in one frame, and that frame does not matter."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.align import align
from nfn_cli.match.equivalent import equivalent
from nfn_cli.match.merge import Source, merge
from nfn_cli.match.merge_average import averaged, shares
from nfn_cli.match.merge_result import Merged
from nfn_cli.symmetry.check import outputs, relative_change

from ..symmetry.networks import ALL, Tensors, mlp, residual
from .test_equivalent import moved

KINDS = ["mlp-relu", "mlp-sin", "cnn-tanh", "residual-tanh", "grouped-relu"]


def source(network: Network, tensors: Tensors, path: str = "net") -> Source:
    return Source(Checkpoint(path, "safetensors", tensors), (network,))


def merged(network: Network, *members: Tensors, **how) -> Merged:
    return merge([source(network, tensors, f"net{number}") for number, tensors in enumerate(members)], **how)


def change(network: Network, one: Tensors, other: Tensors) -> float:
    return relative_change(outputs(network, one, 0), outputs(network, other, 0))


def naive(*members: Tensors) -> Tensors:
    return {name: sum(member[name] for member in members) / len(members) for name in members[0]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_merged_with_a_member_of_its_orbit_is_itself(kind: str) -> None:
    network, tensors = ALL[kind](1)
    other = moved(network, tensors, 5)
    done = merged(network, tensors, other, weights=[1, 3])
    assert change(network, tensors, done.checkpoint.tensors) < 1e-9
    assert all(np.allclose(done.checkpoint.tensors[n], tensors[n], rtol=1e-7, atol=1e-9) for n in tensors)
    assert done.members[1].distance < 1e-7
    assert change(network, tensors, naive(tensors, other)) > 1e-2  # negative control


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_that_members_come_in_do_not_matter(kind: str) -> None:
    network, one = ALL[kind](1)
    _, other = ALL[kind](2)
    wide = (0.1, 10.0)
    rescaled = moved(network, one, 7, wide), moved(network, other, 8, wide)
    plain, again = merged(network, one, other), merged(network, *rescaled)
    assert change(network, plain.checkpoint.tensors, again.checkpoint.tensors) < 1e-9
    left, right = (replace(done.checkpoint, path=path) for done, path in ((plain, "a"), (again, "b")))
    assert equivalent(left, [network], right, [network]).equivalent
    # it stands where its first member does, and it is neither member
    assert change(network, plain.checkpoint.tensors, one) > 1e-2
    assert change(network, plain.checkpoint.tensors, other) > 1e-2
    # negative control: without alignment the frames are all that matters
    assert change(network, naive(one, other), naive(*rescaled)) > 1e-2


def test_the_mean_of_three_does_not_depend_on_their_frames_and_comes_closer_round_by_round() -> None:
    (network, one), (_, two), (_, three) = (mlp(seed, "tanh", (4, 8, 8, 3)) for seed in (1, 2, 3))
    plain = merged(network, one, two, three, weights=[0.5, 0.3, 0.2])
    again = merged(
        network, *(moved(network, t, s, (1, 1)) for t, s in ((one, 4), (two, 5), (three, 6))), weights=[5, 3, 2]
    )
    assert change(network, plain.checkpoint.tensors, again.checkpoint.tensors) < 1e-9
    assert [member.weight for member in plain.members] == pytest.approx([0.5, 0.3, 0.2])
    assert len(plain.spread) > 1
    assert all(after < before for before, after in pairwise(plain.spread))
    once = merged(network, one, two, three, weights=[0.5, 0.3, 0.2], rounds=0)
    assert once.spread == plain.spread[:1]
    assert change(network, plain.checkpoint.tensors, once.checkpoint.tensors) > 1e-3


def test_the_spread_is_that_of_the_members_in_the_balanced_frame() -> None:
    (network, one), (_, two), (_, three) = (mlp(seed, "tanh", (4, 8, 8, 3)) for seed in (1, 2, 3))
    done = merged(network, one, two, three, weights=[1, 2, 5], rounds=3)
    parts = np.array([1, 2, 5]) / 8
    total = 0.0
    for name in one:  # tanh has no scales: every frame of its group is as far from another
        stack = np.stack([np.asarray(member.tensors[name]) for member in done.members])
        mean = np.tensordot(parts, stack, 1)
        total += float((parts[:, None] * ((stack - mean) ** 2).reshape(3, -1)).sum())
    assert done.spread[-1] == pytest.approx(total, rel=1e-9)


def test_what_is_said_of_a_member_is_what_align_says() -> None:
    (network, one), (_, other) = residual(1, "relu"), residual(2, "relu")
    done = merged(network, one, other)
    left, right = source(network, other), source(network, one)
    alone = align(left.checkpoint, left.networks, right.checkpoint, right.networks)
    (first, second) = done.members
    assert second.objective == pytest.approx(alone.objective, rel=1e-7)
    assert second.distance == pytest.approx(alone.distance, rel=1e-7)
    assert (second.start, second.relative_change) == (alone.start, alone.relative_change)
    assert second.objective < second.start
    assert 0 < second.moved <= second.units
    assert (first.objective, first.moved) == (0.0, 0)


def test_weights_are_a_ratio() -> None:
    (network, one), (_, other) = mlp(1, "tanh"), mlp(2, "tanh")
    three_to_one = merged(network, one, other, weights=[3, 1]).checkpoint.tensors
    halves = merged(network, one, other).checkpoint.tensors
    for name in one:
        # on the line between the first and the aligned second: a quarter is half of a half
        assert np.allclose(three_to_one[name] - one[name], (halves[name] - one[name]) / 2, atol=1e-12)
    assert shares([1e308, 1e308], 2) == (0.5, 0.5)
    assert sum(shares(None, 3)) == pytest.approx(1)


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, np.nan], [np.inf, 1], [1, 1, 1]])
def test_weights_that_make_no_sense_are_wrong_usage(weights: list[float]) -> None:
    network, tensors = mlp(1, "tanh")
    with pytest.raises(WrongUsage):
        merged(network, tensors, tensors, weights=weights)


def test_what_no_network_uses_and_integers_are_those_of_the_first() -> None:
    (network, one), (_, other) = mlp(1, "tanh"), mlp(2, "tanh")
    extra = [{"steps": np.array([number]), "ema": np.full(3, float(number))} for number in (4, 8)]
    first = Checkpoint("a", "safetensors", one | extra[0], metadata={"by": "first"})
    second = Checkpoint("b", "npz", other | extra[1])
    done = merge([Source(first, (network,)), Source(second, (network,))])
    assert int(done.checkpoint.tensors["steps"][0]) == 4
    assert np.array_equal(done.checkpoint.tensors["ema"], np.full(3, 4.0))
    assert (done.checkpoint.container, done.checkpoint.metadata) == ("safetensors", {"by": "first"})
    assert done.notes == ("ema: used by no network that was found, taken from the first as it is",)
    integers = averaged([{"n": np.array([3])}, {"n": np.array([9])}], (0.5, 0.5), ["n"])
    assert int(integers["n"][0]) == 3


def test_tensors_that_share_memory_stay_equal() -> None:
    """One layer used twice, stored under two names."""
    made = []
    for seed in (1, 2):
        network, tensors = ALL["autoencoder-relu"](seed)
        copies = {"c.weight": tensors["a.weight"], "c.bias": tensors["a.bias"]}
        _, second, *_ = (op for op in network.graph.ops if op.kind == "linear")
        again = replace(second, parameters={"weight": "c.weight", "bias": "c.bias"})
        ops = tuple(again if op is second else op for op in network.graph.ops)
        shapes = {**network.graph.parameter_shapes, "c.weight": (6, 6), "c.bias": (6,)}
        twice = replace(network, graph=replace(network.graph, ops=ops, parameter_shapes=shapes))
        aliases = {"c.weight": "a.weight", "c.bias": "a.bias"}
        made.append(Source(Checkpoint(f"net{seed}", "safetensors", tensors | copies, aliases=aliases), (twice,)))
    done = merge(made).checkpoint.tensors
    assert np.array_equal(done["a.weight"], done["c.weight"])
    assert not np.array_equal(done["a.weight"], made[0].checkpoint.tensors["a.weight"])  # negative control
    one, other = (source.checkpoint.tensors for source in made)
    assert np.allclose(done["out.bias"], (one["out.bias"] + other["out.bias"]) / 2)  # no element moves an output


def test_names_may_differ_and_element_types_are_those_of_the_first() -> None:
    (network, one), (_, other) = mlp(1, "tanh"), mlp(2, "tanh")
    renamed = {f"module.{name}": array.astype(np.float32) for name, array in other.items()}
    graph = network.graph
    ops = tuple(replace(op, parameters={r: f"module.{n}" for r, n in op.parameters.items()}) for op in graph.ops)
    shapes = {f"module.{name}": shape for name, shape in graph.parameter_shapes.items()}
    theirs = replace(network, graph=replace(graph, ops=ops, parameter_shapes=shapes))
    narrow = {name: array.astype(ml_dtypes.bfloat16) for name, array in one.items()}
    done = merge([source(network, narrow), source(theirs, renamed)]).checkpoint.tensors
    assert {array.dtype.name for array in done.values()} == {"bfloat16"}
    wide = [
        {n: a.astype(t).astype(np.float64) for n, a in tensors.items()}
        for tensors, t in ((one, ml_dtypes.bfloat16), (other, np.float32))
    ]
    exact = merged(network, *wide).checkpoint.tensors
    for name, array in done.items():
        assert np.allclose(array.astype(np.float64), exact[name], rtol=2.0**-8, atol=1e-6)
        assert not np.allclose(
            array.astype(np.float64), exact[name], rtol=1e-6, atol=0
        )  # negative control: it was rounded


def test_what_cannot_be_merged_is_refused() -> None:
    (network, one), (wider, other) = mlp(1, "relu"), mlp(1, "relu", (5, 7, 8, 3))
    with pytest.raises(WrongUsage, match="one network"):
        merged(network, one)
    with pytest.raises(Refused, match="architecture"):
        merge([source(network, one), source(wider, other)])
    sick = one | {"layers.0.weight": np.full_like(one["layers.0.weight"], np.nan)}
    for members in ((sick, one), (one, sick)):
        with pytest.raises(Refused, match="not finite"):
            merged(network, *members)


def test_a_mean_too_large_for_the_first_ones_type_is_refused() -> None:
    network, one = mlp(1, "tanh")
    small = {name: array.astype(np.float16) for name, array in one.items()}
    huge = one | {"layers.2.bias": np.full(3, 1e6)}
    with pytest.raises(Refused, match=r"layers\.2\.bias.*float16"):
        merged(network, small, huge)
    assert merged(network, huge, small).checkpoint.tensors["layers.2.bias"][0] == pytest.approx(5e5, rel=1e-3)
