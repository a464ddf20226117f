"""Where names allow a second reading, nothing is claimed that fails under one of the readings: torch computes them all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph import NameOptions, networks_from_names
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

RELU = NameOptions(activation="relu")


class Named(nn.Module):
    """Layers under names, and what is computed of them."""

    def __init__(self, layers: dict[str, nn.Module], forward: Callable[[Named, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.compute = forward
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d):
                for value in (layer.weight, layer.running_mean, layer.running_var):
                    nn.init.uniform_(value, 0.5, 2)
        self.double().eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.compute(self, x)


def latent(mean: Tensor, deviation: Tensor) -> Tensor:
    return mean + torch.exp(deviation / 2)


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def numbered_heads() -> Named:
    """The variational autoencoder of the PyTorch examples: the heads of layer 2 are called 21 and 22."""
    names = {"fc1": (9, 8), "fc21": (8, 3), "fc22": (8, 3), "fc3": (3, 8), "fc4": (8, 9)}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.fc1(x).relu()
        mean, deviation = m.fc21(h), m.fc22(h)
        return mean, deviation, m.fc4(m.fc3(latent(mean, deviation)).relu())

    return Named({name: nn.Linear(*size) for name, size in names.items()}, forward)


def heads_in_one_numbering() -> Named:
    names = {"linear1": (9, 8), "linear2": (8, 3), "linear3": (8, 3), "linear4": (3, 7), "linear5": (7, 9)}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.linear1(x).relu()
        mean, deviation = m.linear2(h), m.linear3(h)
        return mean, deviation, m.linear5(m.linear4(latent(mean, deviation)).relu())

    return Named({name: nn.Linear(*size) for name, size in names.items()}, forward)


def heads_as_wide_as_the_trunk() -> Named:
    layers = {"encoder": mlp(9, 8, 3), "mean_layer": nn.Linear(3, 3), "logvar_layer": nn.Linear(3, 3)}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.encoder(x).relu()
        mean, deviation = m.mean_layer(h), m.logvar_layer(h)
        return mean, deviation, m.decoder(latent(mean, deviation))

    return Named(layers | {"decoder": mlp(3, 8, 9)}, forward)


def heads_named_before_the_trunk() -> Named:
    heads = {"layer_mu": nn.Linear(7, 3), "layer_var": nn.Linear(7, 3), "network": mlp(9, 8, 7)}
    layers = {"encoder": nn.ModuleDict(heads), "decoder": nn.ModuleDict({"network": mlp(3, 7, 9)})}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.encoder["network"](x).relu()
        mean, deviation = m.encoder["layer_mu"](h), m.encoder["layer_var"](h)
        return mean, deviation, m.decoder["network"](latent(mean, deviation))

    return Named(layers, forward)


def a_head_inside_another_part() -> Named:
    layers = {"fc1": nn.Linear(4, 6), "fc2": nn.Linear(6, 5), "fc3": nn.Linear(5, 2), "value": mlp(6, 3, 1)}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.fc1(x).relu()
        return m.fc3(m.fc2(h).relu()), m.value(h)

    return Named(layers, forward)


def joined_heads() -> Named:
    names = {"l1": (4, 9), "l2": (9, 6), "l3": (6, 3), "l4": (6, 3), "l5": (6, 2)}

    def forward(m: Named, x: Tensor) -> tuple[Tensor, ...]:
        h = m.l2(m.l1(x).relu()).relu()
        return (m.l5(torch.cat((m.l3(h), m.l4(h)), 1).relu()),)

    return Named({name: nn.Linear(*size) for name, size in names.items()}, forward)


def two_equal_sources() -> Named:
    layers = {"state": mlp(9, 8, 5), "goal": mlp(9, 7, 5), "top": mlp(5, 6, 2)}
    return Named(layers, lambda m, x: (m.top(m.state(x).relu() + m.goal(x).relu()),))


def a_norm_behind_the_last_activation() -> Named:
    """A layer norm that directly follows its linear layer would allow more than one behind a relu does."""
    block = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5))
    return Named({"block": block}, lambda m, x: (m.block(x),))


def input_hidden_output() -> Named:
    layers = {"output_fc": nn.Linear(6, 2), "hidden_fc": nn.Linear(6, 6), "input_fc": nn.Linear(9, 6)}
    return Named(layers, lambda m, x: (m.output_fc(m.hidden_fc(m.input_fc(x).relu()).relu()),))


def a_norm_of_the_input() -> Named:
    layers = {"l0_bn": nn.BatchNorm1d(9), "l1": nn.Linear(9, 7), "l1_bn": nn.BatchNorm1d(7), "l2": nn.Linear(7, 2)}
    return Named(layers, lambda m, x: (m.l2(m.l1_bn(m.l1(m.l0_bn(x))).relu()),))


def a_norm_of_the_input_as_wide_as_the_units() -> Named:
    layers = {"input_norm": nn.BatchNorm1d(9), "l1": nn.Linear(9, 9), "l2": nn.Linear(9, 2)}
    return Named(layers, lambda m, x: (m.l2(m.l1(m.input_norm(x)).relu()),))


def a_head_of_a_name_in_front_of_its_trunk() -> Named:
    layers = {"actions_out": nn.Linear(6, 2), "body1": nn.Linear(9, 6)}
    return Named(layers, lambda m, x: (m.actions_out(m.body1(x).relu()),))


CASES = {
    made.__name__: (made, free)
    for made, free in (
        (numbered_heads, {8}),
        (heads_in_one_numbering, {8, 7}),
        (heads_as_wide_as_the_trunk, {8}),
        (heads_named_before_the_trunk, {8, 7}),
        (a_head_inside_another_part, {5, 3}),
        (joined_heads, {9}),
        (two_equal_sources, {8, 7, 6}),
        (a_norm_behind_the_last_activation, {6}),
        (input_hidden_output, {6}),
        (a_norm_of_the_input, {7}),
        (a_head_of_a_name_in_front_of_its_trunk, {6}),
        (a_norm_of_the_input_as_wide_as_the_units, {9}),
    )
}


def found(module: nn.Module) -> tuple[Checkpoint, Symmetry]:
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    file = Checkpoint("x", "torch-zip", tensors)
    return file, find_symmetry(networks_from_names(file, RELU))


def change(module: Named, tensors: dict[str, np.ndarray], x: Tensor) -> float:
    """Largest change of an output when these tensors take the place of the module's own."""
    with torch.no_grad():
        before = module(x)
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
        after = module(x)
        module.load_state_dict(kept)
    return max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_what_is_claimed_holds_for_the_network_as_it_is_run(case: str) -> None:
    torch.manual_seed(0)
    module, widths = CASES[case][0](), CASES[case][1]
    file, symmetry = found(module)
    assert {unit_set.size for unit_set in symmetry.unit_sets} == widths
    x = torch.randn(5, 4 if case in ("a_head_inside_another_part", "joined_heads") else 9).double()
    for seed in range(3):
        moved = TransformedTensors(file.tensors, {}, symmetry, random_flat(symmetry, seed))
        assert change(module, dict(moved), x) < 1e-9
    # the control: units change places in one tensor alone
    swapped = dict(file.tensors)
    name = next(iter(swapped))
    swapped[name] = np.roll(swapped[name], 1, 0)
    assert change(module, swapped, x) > 1e-6


def test_a_norm_between_two_layers_that_fits_neither_is_refused() -> None:
    """Behind the flattening of a convolution there are as many features as the linear layer reads."""
    layers = [nn.Conv2d(1, 4, 3), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)]
    with pytest.raises(NfnError) as caught:
        found(nn.Sequential(*layers))
    assert caught.value.code == "ambiguous-norm"


def test_a_norm_at_the_end_allows_nothing_more_where_an_activation_may_stand_before_it() -> None:
    file, _ = found(a_norm_behind_the_last_activation())
    (network,) = networks_from_names(file, RELU)
    (linear,) = (op for op in network.graph.ops if op.parameters.get("weight") == "block.3.weight")
    assert linear.output in network.graph.outputs


def test_biases_may_be_rows_or_columns() -> None:
    """W, b, W, b with b of shape (1, n); or all weights before all biases of shape (n, 1)."""
    rng = np.random.default_rng(0)
    rows = [(3, 8), (1, 8), (8, 8), (1, 8), (8, 2), (1, 2)]
    columns = [(8, 3), (8, 8), (2, 8), (8, 1), (8, 1), (2, 1)]
    for shapes, biases in ((rows, ["1", "3"]), (columns, ["3", "4"])):
        tensors = {str(number): rng.standard_normal(shape) for number, shape in enumerate(shapes)}
        symmetry = find_symmetry(networks_from_names(Checkpoint("x", "pickle", tensors), RELU))
        assert [unit_set.size for unit_set in symmetry.unit_sets] == [8, 8]
        assert all(name in symmetry.actions for name in biases)


HAND = {"w_conv": (3, 3, 1, 4), "b_conv": (4, 1), "w_fc": (10, 36), "b_fc": (10, 1)}


def test_a_program_of_ones_own_may_keep_the_kernel_first_and_flatten_as_it_likes() -> None:
    """(3, 3, 1, 4) has a square kernel only when read from the front, whichever way the matrices lie."""
    rng = np.random.default_rng(0)
    for last, flattens in ((HAND["w_fc"], True), ((10, 4), False)):
        tensors = {name: rng.standard_normal(shape) for name, shape in (HAND | {"w_fc": last}).items()}
        (network,) = networks_from_names(Checkpoint("x", "npz", tensors), RELU)
        symmetry = find_symmetry([network])
        assert any("flattened" in note for note in network.notes) is flattens
        assert [unit_set.size for unit_set in symmetry.unit_sets] == ([] if flattens else [4])
        if not flattens:
            moved = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 0))["w_conv"]
            ratio = moved / tensors["w_conv"][..., symmetry_order(moved, tensors["w_conv"])]
            assert np.allclose(ratio, ratio[0, 0, 0])  # every filter, as a whole, has moved and is scaled


def symmetry_order(moved: np.ndarray, array: np.ndarray) -> list[int]:
    """Which filter each one was: the one of its direction."""
    flat, old = (
        a.reshape(-1, a.shape[-1]) / np.linalg.norm(a.reshape(-1, a.shape[-1]), axis=0) for a in (moved, array)
    )
    return list((flat.T @ old).argmax(axis=1))


def test_filters_that_tell_nothing_of_their_layout_are_refused() -> None:
    tensors = {"w_conv1": np.ones((3, 3, 3, 3)), "b_conv1": np.ones(3), "w_fc": np.ones((2, 3))}
    with pytest.raises(NfnError) as caught:
        networks_from_names(Checkpoint("x", "npz", tensors), RELU)
    assert caught.value.code == "layout-ambiguous"


def test_what_may_be_the_end_or_the_start_has_to_be_said() -> None:
    """What the network gives has as many entries as it takes: by sizes and alphabet, its end may stand before its start."""
    layers = {"fce": nn.Linear(8, 1), "fch": mlp(8, 8, 8), "fcs": nn.Linear(1, 8)}
    module = Named(layers, lambda m, x: (m.fce(m.fch(m.fcs(x).relu()).relu()),))
    with pytest.raises(NfnError, match=r"fcs.weight: may read fce.weight or the input.*--layers"):
        found(module)
    file = Checkpoint("x", "torch-zip", {name: value.numpy() for name, value in module.state_dict().items()})
    told = NameOptions(activation="relu", layers="fcs.weight,fch.0.weight,fch.2.weight,fce.weight")
    assert [unit_set.size for unit_set in find_symmetry(networks_from_names(file, told)).unit_sets] == [8, 8, 8]


def test_two_networks_of_which_one_could_read_the_other_stay_two() -> None:
    layers = {"param1": mlp(2, 6, 2), "params2": mlp(3, 6, 2)}
    _, symmetry = found(Named(layers, lambda m, x: (x,)))
    assert [unit_set.size for unit_set in symmetry.unit_sets] == [6, 6]


def test_the_report_says_what_may_be_read() -> None:
    file, _ = found(numbered_heads())
    (network,) = networks_from_names(file, RELU)
    assert any("fc3.weight may read fc21.weight or fc22.weight" in note for note in network.notes)


def test_the_report_names_the_layer_inside_another_part_that_may_be_read() -> None:
    file, _ = found(a_head_inside_another_part())
    (network,) = networks_from_names(file, RELU)
    assert any("value.0.weight may read fc1.weight in an order of its own" in note for note in network.notes)


def test_a_policy_and_a_value_of_one_size_are_in_no_doubt() -> None:
    bodies = nn.ModuleDict({"policy_net": mlp(4, 6, 6), "value_net": mlp(4, 6, 6)})
    layers = {"extractor": bodies, "action_net": nn.Linear(6, 2), "value_net": nn.Linear(6, 1)}
    module = Named(layers, lambda m, x: (x,))
    file, symmetry = found(module)
    assert [unit_set.size for unit_set in symmetry.unit_sets] == [6, 6, 6, 6]
    assert not any("may read" in note for network in networks_from_names(file, RELU) for note in network.notes)


@pytest.mark.parametrize(("filters", "said"), [(32, False), (288, True)])
def test_many_filters_of_one_channel_may_be_a_grouped_convolution(filters: int, said: bool) -> None:
    shapes = {"conv1.weight": (filters, 1, 3, 3), "conv2.weight": (8, filters, 3, 3), "fc.weight": (2, 8)}
    arrays = {name: np.ones(shape) for name, shape in shapes.items()}
    (network,) = networks_from_names(Checkpoint("x", "safetensors", arrays), NameOptions(activation="relu"))
    assert any("were it grouped" in note for note in network.notes) == said


@pytest.mark.parametrize(
    "sizes", [[(n + 2, n + 1) for n in range(400)], [(4, 4)] * 400], ids=["one behind the other", "all alike"]
)
def test_hundreds_of_parts_are_analysed_or_refused(sizes: list[tuple[int, int]]) -> None:
    """Once a traceback, or minutes: what feeds what was asked again and again, one call within the other."""
    arrays = {f"{chr(97 + n % 26)}{n}.fc.weight": np.ones(size, np.float16) for n, size in enumerate(sizes)}
    with suppress(NfnError):
        networks_from_names(Checkpoint("x", "safetensors", arrays), RELU)
