"""--linear: units that are linear on the stated range, and layers with nothing between them."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical.reduction import Reduced, ReduceOptions, reduce
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import GraphInput, Network

from ..symmetry.networks import ALL, Builder, Tensors, mlp
from .widening import moved, widened

ON = ReduceOptions(input_range=(-1, 1), linear=True)


def answer(network: Network, tensors: Tensors, options: ReduceOptions) -> Reduced:
    result = reduce(Checkpoint("a file", "npz", tensors), [network], options)
    assert result.relative_change < 1e-9
    return result


def always_on(count: int, widths: tuple[int, ...] = (3, 10, 4, 2)) -> tuple[Network, Tensors]:
    """The first `count` units of the first layer are on for inputs in [−1, 1], the others are off and on."""
    network, tensors = mlp(1, "relu", widths)
    reach = np.abs(tensors["layers.0.weight"]).sum(axis=1)
    on = np.arange(widths[1]) < count
    tensors["layers.0.bias"][:] = np.where(on, 1.01 * reach, 0.0)
    # the next layer's units turn in the middle of what they can be
    tensors["layers.1.bias"][:] = -tensors["layers.1.weight"] @ np.where(on, 1.01 * reach, reach / 2)
    return network, tensors


@pytest.mark.parametrize(("count", "goes"), [(0, 0), (3, 0), (5, 2), (8, 5)])
def test_always_on_units_are_combinations_of_as_many_as_there_are_inputs(count: int, goes: int) -> None:
    network, tensors = always_on(count)
    result = answer(network, tensors, ON)
    assert [unit.rule for unit in result.removed] == ["dependent"] * goes
    assert all(unit.index < count for unit in result.removed if unit.index is not None)


def test_without_the_option_or_the_range_they_stay() -> None:
    network, tensors = always_on(8)
    assert answer(network, tensors, ReduceOptions(input_range=(-1, 1))).removed == ()
    assert answer(network, tensors, ReduceOptions(linear=True)).removed == ()
    assert answer(network, tensors, ReduceOptions(input_range=(-1.02, 1.02), linear=True)).removed == ()


def test_combinations_need_a_bias_to_take_up_their_constants() -> None:
    """Without one the constants must combine as well: four functions, 1 among them, of three inputs."""
    network, tensors = always_on(8)
    ops = tuple(
        op
        if op.output != "v3"
        else type(op)(op.kind, op.inputs, op.output, {"weight": "layers.1.weight"}, op.attributes)
        for op in network.graph.ops
    )
    graph = type(network.graph)(network.graph.inputs, ops, network.graph.outputs, network.graph.parameter_shapes)
    network = Network("", "mlp", graph, network.activation)
    assert [unit.rule for unit in answer(network, tensors, ON).removed] == ["dependent"] * 4


def test_layers_in_a_row_keep_the_rank_of_their_product() -> None:
    network, tensors = mlp(0, "identity", (5, 7, 6, 3))
    result = answer(network, tensors, ReduceOptions(linear=True))
    assert result.checkpoint.tensors["layers.0.weight"].shape == (3, 5)
    assert result.checkpoint.tensors["layers.1.weight"].shape == (3, 3)
    assert [unit.rule for unit in result.removed] == ["mixed"] * 7
    assert answer(network, tensors, ReduceOptions()).removed == ()


def test_a_bottleneck_stays() -> None:
    network, tensors = mlp(0, "identity", (6, 2, 6))
    assert answer(network, tensors, ReduceOptions(linear=True)).removed == ()


def convolutions(padding: int, function: str = "identity") -> tuple[Network, Tensors]:
    b = Builder(0, [GraphInput("x", (None, 2, 8, 8))])
    x = b.act(b.conv("x", "a", 9, 2, k=1), function)
    roles = {"weight": b.tensor("b.weight", 4, 9, 3, 3), "bias": b.tensor("b.bias", 4)}
    x = b.op("conv", [x], roles, out_axis=0, in_axis=1, padding=padding)
    return b.network(b.head(b.act(x, "relu"), 4))


@pytest.mark.parametrize(("padding", "width"), [(0, 2), (1, 3)])
def test_convolutions_in_a_row_too(padding: int, width: int) -> None:
    """Two input channels; behind padding the bias is a function of its own."""
    network, tensors = convolutions(padding)
    assert answer(network, tensors, ReduceOptions(linear=True)).checkpoint.tensors["a.weight"].shape[0] == width


def test_what_has_a_function_between_is_not_in_a_row() -> None:
    network, tensors = convolutions(0, "relu")
    assert answer(network, tensors, ReduceOptions(linear=True)).removed == ()


def test_a_value_that_something_else_reads_is_not_merged_away() -> None:
    b = Builder(0, [GraphInput("x", (None, 4))])
    x = b.linear("x", "a", 9, 4)
    network, tensors = b.network(
        b.op("add", [b.linear(x, "b", 3, 9), b.linear(b.act(x, "tanh"), "c", 3, 9)]), family="mlp"
    )
    assert answer(network, tensors, ReduceOptions(linear=True)).removed == ()


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-relu", "residual-relu", "grouped-relu", "concatenation-tanh"])
def test_widening_is_undone_with_all_options_on(kind: str) -> None:
    network, tensors = ALL[kind](2)
    plain = answer(network, tensors, ON)
    wide, more = widened(network, tensors, 2)
    result = answer(wide, moved(wide, more, 2), ON)
    before = {name: np.shape(array) for name, array in plain.checkpoint.tensors.items()}
    assert {name: np.shape(array) for name, array in result.checkpoint.tensors.items()} == before


def test_singles_of_float32_are_combined_within_its_rounding() -> None:
    network, tensors = always_on(40, (3, 60, 4, 2))
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    result = reduce(Checkpoint("a file", "npz", single), [network], ON)
    assert len(result.removed) == 37
    assert result.relative_change < 1e-5
