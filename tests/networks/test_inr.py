"""Which networks are INRs of images, and what they show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.networks.inr import Coordinates, inr_channels, over_points, render, seen_range
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.zoo.sine_network import SineNetwork


def _linear(inputs: int, outputs: int) -> Graph:
    op = Op("linear", ("x",), "y", {"weight": "w", "bias": "b"}, {"out_axis": 0, "in_axis": 1})
    return Graph((GraphInput("x", (None, inputs)),), (op,), ("y",), {"w": (outputs, inputs), "b": (outputs,)})


def test_the_first_coordinate_runs_down_the_rows_unless_said_otherwise() -> None:
    only_first = {"w": torch.tensor([[[1.0, 0.0]]]), "b": torch.zeros(1, 1)}
    shown = render(_linear(2, 1), only_first, 3, 2)[0, ..., 0]
    assert shown.tolist() == [[-1, -1], [0, 0], [1, 1]]
    turned = render(_linear(2, 1), only_first, 3, 2, Coordinates(0.0, 4.0, "column-row", centred=True))[0, ..., 0]
    assert turned.tolist() == [[1, 3]] * 3


def test_many_networks_show_what_each_shows_alone() -> None:
    network = SineNetwork((2, 6, 5, 3), (30.0, 20.0))
    flat = network.initial(np.array(["siren"] * 4), np.random.default_rng(0))
    stacked = {name: torch.from_numpy(t) for name, t in network.tensors(flat).items()}
    together = render(network.graph(), stacked, 9, 7)
    assert together.shape == (4, 9, 7, 3)
    alone = render(network.graph(), {name: t[2:3] for name, t in stacked.items()}, 9, 7)[0]
    assert torch.equal(together[2], alone)
    assert not torch.equal(together[1], alone)


def test_many_turns_of_phase_show_the_same_picture() -> None:
    network = SineNetwork((2, 6, 5, 1), (30.0, 20.0))
    flat = network.initial(np.array(["siren"]), np.random.default_rng(1)).astype(np.float64)
    tensors = {name: t[0] for name, t in network.tensors(flat).items()}
    symmetry = find_symmetry([Network("", "mlp", network.graph(), ("sin",))])
    moved = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 2, shifts=40))
    before, after = (
        render(network.graph(), {n: torch.from_numpy(np.array(each[n])[None]) for n in tensors}, 8, 8)
        for each in (tensors, moved)
    )
    assert float(np.abs(moved["layers.0.bias"]).max()) > 1  # it did turn
    torch.testing.assert_close(before, after, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [(3, 1, "reads inputs|two coordinates"), (2, 4, "4 numbers"), (2, 2, "2 numbers"), (1, 3, "two coordinates")],
)
def test_other_networks_are_refused_with_the_reason(inputs: int, outputs: int, words: str) -> None:
    with pytest.raises(Refused, match=words) as error:
        inr_channels(_linear(inputs, outputs))
    assert error.value.code == "not-an-inr"


def test_channels_are_told_without_computing() -> None:
    assert inr_channels(_linear(2, 1)) == 1
    assert inr_channels(SineNetwork((2, 4, 3), (30.0,)).graph()) == 3


def test_a_graph_that_does_not_say_its_function_is_refused() -> None:
    network = SineNetwork((2, 4, 1), (30.0,))
    graph = network.graph()
    ops = tuple(
        Op(op.kind, op.inputs, op.output, op.parameters, {**op.attributes, "assumed": True})
        if op.kind == "pointwise"
        else op
        for op in graph.ops
    )
    with pytest.raises(Refused) as error:
        inr_channels(Graph(graph.inputs, ops, graph.outputs, graph.parameter_shapes))
    assert error.value.code == "unknown-function"


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(-0.1, 1.1, (0, 1)), (0.2, 0.4, (0, 1)), (-1.05, 0.9, (-1, 1)), (-0.9, 2.8, (-0.9, 2.8)), (5.0, 5.0, (5, 6))],
)
def test_values_tell_their_range(lowest: float, highest: float, expected: tuple[float, float]) -> None:
    assert seen_range(lowest, highest) == expected


def test_a_network_written_down_for_batches_of_points_shows_the_same_as_one_for_points() -> None:
    plain = _linear(2, 1)
    batched = replace(plain, inputs=(GraphInput("x", (1, 32, 2)),))
    with pytest.raises(Refused, match="32 × 2"):
        inr_channels(batched)
    tensors = {"w": torch.tensor([[[1.0, 3.0]]]), "b": torch.ones(1, 1)}
    assert inr_channels(over_points(batched)) == 1
    assert torch.equal(render(over_points(batched), tensors, 5, 4), render(plain, tensors, 5, 4))
    assert over_points(plain) is plain


def test_a_network_that_looks_at_several_points_at_once_is_no_inr() -> None:
    mean = Op("reduce", ("y",), "z", {}, {"axes": (1,), "statistic": "mean"})
    plain = _linear(2, 1)
    pooled = replace(plain, inputs=(GraphInput("x", (1, 32, 2)),), ops=(*plain.ops, mean), outputs=("z",))
    with pytest.raises(Refused, match="32 × 2"):
        inr_channels(over_points(pooled))
