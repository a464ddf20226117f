"""Networks are recovered from names and shapes: as torch computes them, or not at all."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nfn_cli.checkpoint import Checkpoint, Hints
from nfn_cli.errors import NfnError, Refused
from nfn_cli.graph import NameOptions, Network, networks_from_names
from nfn_cli.graph.reference import evaluate

RELU = NameOptions(activation="relu")


def checkpoint(shapes: dict[str, tuple[int, ...]], container: str = "torch-zip", **more: object) -> Checkpoint:
    generator = np.random.default_rng(0)
    tensors = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return Checkpoint("x", container, tensors, **more)  # type: ignore[arg-type]


def of_module(module: nn.Module, prefix: str = "", seed: int = 0) -> Checkpoint:
    """Its state dict, in an order that says nothing."""
    items = [(prefix + name, value.detach().numpy()) for name, value in module.state_dict().items()]
    random.Random(seed).shuffle(items)
    return Checkpoint("x", "torch-zip", dict(items))


def weights(network: Network) -> list[str]:
    return [op.parameters["weight"] for op in network.graph.ops if op.kind in ("linear", "conv")]


def agree(module: nn.Module, network: Network, found: Checkpoint, x: torch.Tensor) -> bool:
    module = module.double().eval()
    with torch.no_grad():
        expected = module(x.double()).numpy()
    (out,) = evaluate(network.graph, found.tensors, {network.graph.inputs[0].name: x.double().numpy()})
    return bool(np.allclose(out, expected, atol=1e-9))


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(1, 13), min_size=2, max_size=14),
    bias=st.booleans(),
    norm=st.booleans(),
    seed=st.integers(0, 999),
    prefix=st.sampled_from(["", "net.", "a.b."]),
)
def test_linear_chains_compute_what_torch_computes(
    widths: list[int], bias: bool, norm: bool, seed: int, prefix: str
) -> None:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        parts += [nn.Linear(into, out, bias=bias), *([nn.BatchNorm1d(out)] if norm else []), nn.ReLU()]
    module = nn.Sequential(*(parts[:-2] if norm else parts[:-1]))
    found = of_module(module, prefix, seed)
    (network,) = networks_from_names(found, RELU)
    assert agree(module, network, found, torch.randn(4, widths[0]))


def test_a_wrong_order_would_be_noticed() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    found = of_module(module)
    (network,) = networks_from_names(found, NameOptions(activation="relu", layers="2.weight,0.weight,4.weight"))
    assert not agree(module, network, found, torch.randn(4, 4))


def test_convolutions_are_flattened_with_their_spatial_factor() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 7, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 16, 4),
    )
    found = of_module(module)
    (network,) = networks_from_names(found, RELU)
    assert network.family == "cnn"
    assert agree(module, network, found, torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("rank", [1, 3])
def test_convolutions_of_every_rank(rank: int) -> None:
    conv = nn.Conv1d if rank == 1 else nn.Conv3d
    module = nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 3, padding=1))
    found = of_module(module)
    (network,) = networks_from_names(found, RELU)
    assert agree(module, network, found, torch.randn(2, 2, *(5,) * rank))


def test_names_are_sorted_as_numbers() -> None:
    shapes = {f"fc{i}.weight": (4, 4) for i in (10, 2, 1, 9)}
    (network,) = networks_from_names(checkpoint(shapes), RELU)
    assert weights(network) == ["fc1.weight", "fc2.weight", "fc9.weight", "fc10.weight"]


def test_subnetworks_are_told_apart() -> None:
    shapes = {}
    for net in ("actor", "critic", "critic_target"):
        shapes |= {f"{net}.0.weight": (8, 3), f"{net}.0.bias": (8,), f"{net}.2.weight": (3, 8), f"{net}.2.bias": (3,)}
    networks = networks_from_names(checkpoint(shapes), RELU)
    assert [network.name for network in networks] == ["actor", "critic", "critic_target"]


def test_two_networks_in_one_numbering_are_told_apart() -> None:
    sizes = [(16, 5), (8, 16), (1, 8), (16, 5), (8, 16), (1, 8)]
    shapes = {f"linear{i + 1}.weight": size for i, size in enumerate(sizes)}
    first, second = networks_from_names(checkpoint(shapes), RELU)
    assert weights(first) == ["linear1.weight", "linear2.weight", "linear3.weight"]
    assert weights(second) == ["linear4.weight", "linear5.weight", "linear6.weight"]


def test_heads_share_a_trunk_even_when_listed_before_it() -> None:
    shapes = {
        "advantage.weight": (3, 8),
        "value.weight": (1, 8),
        "trunk.0.weight": (9, 4),
        "trunk.2.weight": (8, 9),
        "log_std": (3,),
    }
    (network,) = networks_from_names(checkpoint(shapes), RELU)
    assert len(network.graph.outputs) == 2
    assert weights(network)[:2] == ["trunk.0.weight", "trunk.2.weight"]


def test_policies_and_values_go_to_their_own_extractors() -> None:
    shapes = {
        "action_net.weight": (2, 64),
        "mlp_extractor.policy_net.0.weight": (64, 4),
        "mlp_extractor.value_net.0.weight": (64, 4),
        "value_net.weight": (1, 64),
    }
    policy, value = networks_from_names(checkpoint(shapes), NameOptions(activation="tanh"))
    assert weights(policy) == ["mlp_extractor.policy_net.0.weight", "action_net.weight"]
    assert weights(value) == ["mlp_extractor.value_net.0.weight", "value_net.weight"]


def test_an_input_joined_to_hidden_units_keeps_them_in_place_until_the_order_is_told() -> None:
    shapes = {"fcs1.weight": (40, 7), "fc2.weight": (30, 42), "fc3.weight": (1, 30)}
    (network,) = networks_from_names(checkpoint(shapes), RELU)
    assert "opaque" in [op.kind for op in network.graph.ops]
    assert any("--concat" in note for note in network.notes)
    (told,) = networks_from_names(checkpoint(shapes), NameOptions(activation="relu", concat="hidden-first"))
    assert "concat" in [op.kind for op in told.graph.ops]


def test_numpy_layouts() -> None:
    unordered = {"arr_2": (18,), "arr_1": (18, 9), "arr_3": (9,), "arr_0": (27, 18)}
    (network,) = networks_from_names(checkpoint(unordered, "npz"), NameOptions(activation="tanh"))
    assert weights(network) == ["arr_0", "arr_1"]
    assert network.graph.ops[0].attributes["out_axis"] == 1
    keras = {"dense/kernel:0": (5, 6), "dense/bias:0": (6,), "dense_1/kernel:0": (6, 2), "dense_1/bias:0": (2,)}
    (network,) = networks_from_names(checkpoint(keras, "npz"), RELU)
    assert network.graph.ops[0].attributes["in_axis"] == 0


def test_a_bias_is_one_number_for_each_unit() -> None:
    shapes = {"a.weight": (4, 3), "a.bias": (4, 1), "b.weight": (2, 4), "b.bias": (2,)}
    assert networks_from_names(checkpoint(shapes), RELU)
    with pytest.raises(Refused, match=r"a\.bias.*12 entries"):
        networks_from_names(checkpoint({**shapes, "a.bias": (4, 3)}), RELU)


def test_maximum_pooling_is_not_excluded_without_a_word_about_it() -> None:
    shapes = {"conv1.weight": (4, 1, 3, 3), "conv2.weight": (5, 4, 3, 3), "fc.weight": (2, 5)}
    (network,) = networks_from_names(checkpoint(shapes), NameOptions(activation="tanh"))
    assert "max_pool" in [op.kind for op in network.graph.ops]
    (told,) = networks_from_names(checkpoint(shapes), NameOptions(activation="tanh", pooling="average"))
    assert "max_pool" not in [op.kind for op in told.graph.ops]


def test_batch_norm_after_the_activation_is_told_by_its_index() -> None:
    norm = {f"3.{part}": (4,) for part in ("weight", "bias", "running_mean", "running_var")}
    shapes = {"1.weight": (4, 2, 3, 3), **norm, "4.weight": (3, 4, 3, 3)}
    (network,) = networks_from_names(checkpoint(shapes), RELU)
    assert [op.kind for op in network.graph.ops] == ["conv", "pointwise", "batch_norm", "conv"]


def test_the_activation_is_never_guessed() -> None:
    shapes = {"fc1.weight": (4, 3), "fc2.weight": (2, 4)}
    with pytest.raises(Refused, match="--activation") as caught:
        networks_from_names(checkpoint(shapes))
    assert caught.value.code == "activation-unknown"
    (network,) = networks_from_names(checkpoint(shapes, hints=Hints(activation="Tanh", source="metadata")))
    assert (network.activation, network.activation_source) == (("tanh",), "metadata")
    deep = shapes | {"fc3.weight": (3, 2)}
    (mixed,) = networks_from_names(checkpoint(deep), NameOptions(activation="relu,sigmoid"))
    assert mixed.activation == ("relu", "sigmoid")
    with pytest.raises(Refused, match="3 activations for 2"):
        networks_from_names(checkpoint(deep), NameOptions(activation="relu,relu,relu"))


def test_pieces_of_a_convolutional_network_are_not_taken_for_networks() -> None:
    shapes = {
        "features.0.weight": (16, 3, 3, 3),
        "fire.squeeze.weight": (4, 16, 1, 1),
        "fire.expand1.weight": (8, 4, 1, 1),
        "fire.expand3.weight": (8, 4, 3, 3),
        "last.weight": (10, 16, 1, 1),
    }
    with pytest.raises(Refused):
        networks_from_names(checkpoint(shapes), RELU)


REFUSED = {
    "ambiguous-norm": {"0.weight": (8, 3, 3, 3), "1.weight": (8,), "1.bias": (8,), "3.weight": (4, 8, 3, 3)},
    "recurrent": {"lstm.weight_ih_l0": (8, 3), "lstm.weight_hh_l0": (8, 2), "fc.weight": (2, 2)},
    "transformer": {"layers.0.self_attn.in_proj_weight": (12, 4), "fc.weight": (2, 4)},
    "graph-network": {"conv1.weight": (9, 16), "conv1.bias": (16,), "conv2.weight": (16, 2)},
    "masked": {"fc1.weight": (4, 4), "fc1.mask": (4, 4), "fc2.weight": (4, 4)},
    "embedding": {"embedding.weight": (100, 8), "fc.weight": (2, 8)},
    "statistics": {"mean.0": (3, 3), "mean.1": (3, 3), "std.0": (3, 3), "std.1": (3, 3)},
    "not-a-network": {"images": (100, 28, 28), "labels": (100,)},
    "needs-graph": {"layer1.0.conv1.weight": (4, 4, 3, 3), "layer1.0.downsample.0.weight": (4, 4, 1, 1)},
    "shape-mismatch": {"fc1.weight": (4, 3), "fc2.weight": (2, 90)},
    "unplaced-tensor": {"fc1.weight": (20, 3), "fc2.weight": (2, 20), "mixing": (20, 20)},
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_no_chain_is_refused_as_what_it_is(code: str) -> None:
    with pytest.raises(NfnError) as caught:
        networks_from_names(checkpoint(REFUSED[code]), RELU)
    assert caught.value.code == code


def test_a_vector_of_no_layer_is_refused_where_it_is_as_long_as_hidden_units() -> None:
    network = {"fc1.weight": (12, 3), "fc2.weight": (2, 12)}
    for name, length in (("alpha", 12), ("own", 12)):
        with pytest.raises(Refused) as caught:
            networks_from_names(checkpoint({**network, name: (length,)}), RELU)
        assert caught.value.code == "unplaced-tensor"
    for name, length in (("alpha", 1), ("own", 3), ("log_std", 2)):
        assert networks_from_names(checkpoint({**network, name: (length,)}), RELU)


def test_shape_errors_name_the_tensor_and_what_settles_it() -> None:
    with pytest.raises(Refused, match=r"fc2\.weight.*--layers"):
        networks_from_names(checkpoint({"fc1.weight": (4, 3), "fc2.weight": (2, 90)}), RELU)
