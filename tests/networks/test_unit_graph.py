"""The unit graph model is blind to the group that the symmetry core finds, and to nothing else that is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfn_cli.errors import Refused
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.graph.reference import evaluate, random_inputs
from nfn_cli.networks.unit_graph import (
    UnitGraphBatch,
    UnitGraphConfig,
    UnitGraphModel,
    encode,
    encode_network,
    joined,
    statistic_sizes,
)
from nfn_cli.networks.unit_graph.lowering import without_batch_norm
from nfn_cli.networks.unit_graph.plan import Plan
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import FlatElement, identity, random_flat
from nfn_cli.symmetry.solve import find_symmetry
from tests.symmetry.networks import ALL, Builder, Tensors, cnn, concatenation, depthwise, mlp, residual


def pre_activation(seed: int, function: str) -> tuple[Network, Tensors]:
    """Norm, function, convolution: the norms stand where no layer can take them in."""
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x = b.conv("x", "stem", 6, 2)
    for block in range(2):
        y = b.act(b.norm(x, f"n{block}", 6), function)
        x = b.op("add", [x, b.conv(y, f"c{block}", 6, 6)])
    return b.network(b.head(b.act(b.norm(x, "last", 6), function), 6))


def sliced(seed: int, function: str) -> tuple[Network, Tensors]:
    """A gate: half of the channels times a function of the other half."""
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))])
    x = b.conv("x", "a", 8, 2)
    x = b.op("mul", [b.part(x, 0, 4), b.act(b.part(x, 4, 8), function)])
    return b.network(b.head(x, 4))


NETWORKS: dict[str, Callable[[int], tuple[Network, Tensors]]] = {
    **ALL,
    **{f"residual-{f}": (lambda seed, f=f: residual(seed, f)) for f in ("gelu", "sin")},
    **{f"depthwise-{f}": (lambda seed, f=f: depthwise(seed, f)) for f in ("gelu", "sin")},
    **{f"concatenation-{f}": (lambda seed, f=f: concatenation(seed, f)) for f in ("gelu", "sin")},
    **{f"pre-activation-{f}": (lambda seed, f=f: pre_activation(seed, f)) for f in ("relu", "tanh", "gelu")},
    **{f"sliced-{f}": (lambda seed, f=f: sliced(seed, f)) for f in ("relu", "tanh")},
}


def a_model(batch: UnitGraphBatch, seed: int = 0, **how: Any) -> UnitGraphModel:
    torch.manual_seed(seed)
    model = (
        UnitGraphModel(
            statistic_sizes(batch),
            UnitGraphConfig(channels=6, edge_functions=3, **{"fields": how.get("statistics", True), **how}),
        )
        .double()
        .eval()
    )
    for name, buffer in model.named_buffers():
        if "running" in name:  # as training would leave it: not the identity
            buffer.uniform_(0.5, 1.5)
    return model


def invariants(model: UnitGraphModel, network: Network, tensors: Tensors) -> Tensor:
    with torch.no_grad():
        batch = encode_network(network.graph, tensors).to(next(model.parameters()).dtype)
        return torch.cat([model.invariants(batch), model.forward_prepared(batch)], 1)


def moved(network: Network, tensors: Tensors, element: FlatElement, dtype: Any = np.float64) -> Tensors:
    view = TransformedTensors(tensors, {}, find_symmetry([network]), element)
    return {name: np.asarray(view[name]).astype(dtype) for name in tensors}


def change(model: UnitGraphModel, network: Network, before: Tensors, after: Tensors) -> float:
    return float((invariants(model, network, after) - invariants(model, network, before)).abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_constant_on_the_orbit(name: str) -> None:
    network, tensors = NETWORKS[name](3)
    model = a_model(encode_network(network.graph, tensors))
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, 1, scales=(1 / 64, 64))
    assert change(model, network, tensors, moved(network, tensors, element)) < 1e-9


@pytest.mark.parametrize("name", ["residual-gelu", "depthwise-gelu", "concatenation-sin"])
def test_outputs_see_every_tensor(name: str) -> None:
    network, tensors = NETWORKS[name](3)
    model = a_model(encode_network(network.graph, tensors), statistics=False)
    for tensor in tensors:
        # at random, so that it is no member of the orbit; running means and variances move what they are folded into
        noise = np.random.default_rng(0).uniform(0.5, 1.5, tensors[tensor].shape)
        assert change(model, network, tensors, {**tensors, tensor: tensors[tensor] * noise}) > 1e-7, tensor


def test_a_scale_on_a_function_that_knows_none_is_seen() -> None:
    network, tensors = mlp(0, "gelu")
    model = a_model(encode_network(network.graph, tensors))
    wrong = {
        **tensors,
        "layers.0.weight": tensors["layers.0.weight"].copy(),
        "layers.0.bias": tensors["layers.0.bias"].copy(),
    }
    wrong["layers.1.weight"] = tensors["layers.1.weight"].copy()
    wrong["layers.0.weight"][0] *= 2
    wrong["layers.0.bias"][0] *= 2
    wrong["layers.1.weight"][:, 0] /= 2
    assert change(model, network, tensors, wrong) > 1e-3


@pytest.mark.parametrize("function", ["relu", "gelu"])
def test_a_sign_on_a_function_that_is_not_odd_is_seen(function: str) -> None:
    network, tensors = mlp(0, function)
    odd, _ = mlp(0, "tanh")
    model = a_model(encode_network(network.graph, tensors))
    symmetry = find_symmetry([odd])
    element = identity(symmetry)
    element.sign[:] = random_flat(symmetry, 1).sign
    flipped = moved(odd, tensors, element)
    assert change(model, network, tensors, flipped) > 1e-3
    assert change(model, odd, tensors, flipped) < 1e-9


def test_a_permutation_of_one_side_alone_is_seen() -> None:
    network, tensors = cnn(0, "relu", norm=False)
    model = a_model(encode_network(network.graph, tensors), statistics=False)
    wrong = {**tensors, "conv1.weight": tensors["conv1.weight"][:, ::-1].copy()}
    assert change(model, network, tensors, wrong) > 1e-5


def test_without_the_balanced_form_scales_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from nfn_cli.networks.unit_graph import encoding

    network, tensors = residual(0, "relu")
    model = a_model(encode_network(network.graph, tensors))
    after = moved(network, tensors, random_flat(find_symmetry([network]), 1))
    monkeypatch.setattr(encoding, "balanced", lambda symmetry, tensors: tensors)
    assert change(model, network, tensors, after) > 1e-2


def test_without_the_lift_signs_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from nfn_cli.networks.unit_graph import message_passing, states

    network, tensors = mlp(0, "tanh")
    model = a_model(encode_network(network.graph, tensors), statistics=False)
    after = moved(network, tensors, random_flat(find_symmetry([network]), 1))
    assert change(model, network, tensors, after) < 1e-9

    def one_version(function: Callable[[Tensor], Tensor], even: Tensor, odd: Tensor, flipping: Tensor) -> states.State:
        return states.State(function(even + odd), function(even + odd))

    monkeypatch.setattr(message_passing, "lifted", one_version)
    assert change(model, network, tensors, after) > 1e-5


@pytest.mark.parametrize(
    "name", ["cnn-relu", "residual-relu", "residual-tanh", "depthwise-tanh", "pre-activation-gelu"]
)
def test_batch_norm_written_out_computes_the_same(name: str) -> None:
    network, tensors = NETWORKS[name](1)
    graph, arrays = without_batch_norm(network.graph, {n: a[None] for n, a in tensors.items()})
    assert all(op.kind != "batch_norm" for op in graph.ops)
    given = random_inputs(network.graph, 0, 2)
    (before,) = evaluate(network.graph, tensors, given)
    (after,) = evaluate(graph, {n: a[0] for n, a in arrays.items()}, given)
    assert np.abs(after - before).max() < 1e-12 * max(1.0, np.abs(before).max())
    assert np.abs(before).max() > 1e-3


@pytest.mark.parametrize("name", ["cnn-relu", "residual-tanh", "depthwise-relu"])
def test_a_network_in_company_is_what_it_is_alone(name: str) -> None:
    drawn = [NETWORKS[name](seed) for seed in range(4)]
    network = drawn[0][0]
    stacked = {n: np.stack([tensors[n] for _, tensors in drawn]) for n in drawn[0][1]}
    batch = encode(network.graph, stacked)
    model = a_model(batch)
    with torch.no_grad():
        together = torch.cat([model.invariants(batch), model.forward_prepared(batch)], 1)
    alone = torch.cat([invariants(model, network, tensors) for _, tensors in drawn])
    assert float((together - alone).abs().max()) < 1e-9
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_a_batch_of_several_graphs_keeps_its_order() -> None:
    drawn = [mlp(0, "relu"), cnn(0, "tanh"), residual(0, "gelu"), mlp(1, "relu", widths=(5, 9, 9, 9, 9, 3))]
    batch = joined([encode_network(network.graph, tensors) for network, tensors in drawn])
    model = a_model(batch)
    alone = torch.cat([invariants(model, network, tensors) for network, tensors in drawn])
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        shuffled = batch[order]
        found = torch.cat([model.invariants(shuffled), model.forward_prepared(shuffled)], 1)
    assert float((found - alone[order]).abs().max()) < 1e-9
    assert float((found - alone).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "name", ["cnn-relu", "residual-relu", "depthwise-relu", "mlp-leaky_relu", "residual-tanh", "mlp-sin"]
)
def test_weights_moved_and_rounded_to_float32_give_the_same_score(name: str) -> None:
    """A score is what a predictor answers with, 1 / (1 + exp(−output)): an output itself may be next to 0."""
    drawn = [NETWORKS[name](seed) for seed in range(4)]
    network = drawn[0][0]
    batch = encode(network.graph, {n: np.stack([t[n] for _, t in drawn]).astype(np.float32) for n in drawn[0][1]})
    model = a_model(batch)
    model.fit_normalization(batch)
    scores = []
    for stored in ({n: a.astype(np.float32) for n, a in t.items()} for _, t in drawn[:2]):
        element = random_flat(find_symmetry([network]), 1, scales=(1 / 64, 64))
        before = torch.sigmoid(invariants(model, network, stored)[:, -1])
        after = torch.sigmoid(invariants(model, network, moved(network, stored, element, np.float32))[:, -1])
        assert float(((after - before) / before).abs().max()) < 1e-6
        scores.append(before)
    assert float((scores[0] - scores[1]).abs()) > 1e-4


def test_dead_units_do_not_matter() -> None:
    network, tensors = mlp(2, "relu")
    dead = {n: a.copy() for n, a in tensors.items()}
    dead["layers.1.weight"][:, 0] = 0.0  # nothing reads unit 0
    model = a_model(encode_network(network.graph, tensors))
    other = {**dead, "layers.0.weight": dead["layers.0.weight"].copy()}
    other["layers.0.weight"][0] *= 50.0
    assert np.isfinite(invariants(model, network, dead).numpy()).all()
    assert change(model, network, dead, other) < 1e-9
    assert change(model, network, tensors, dead) > 1e-3


def test_nothing_that_is_not_a_number_gets_in() -> None:
    network, tensors = mlp(0, "relu")
    with pytest.raises(Refused, match="NaN"):
        encode_network(network.graph, {**tensors, "layers.0.bias": tensors["layers.0.bias"] * np.nan})
    with pytest.raises(Refused, match="no tensor"):
        encode_network(network.graph, {n: a for n, a in tensors.items() if n != "layers.1.weight"})


def test_states_of_slots_move_as_the_slots_do() -> None:
    """One step inside: the two versions of a unit change places under its sign."""
    network, tensors = mlp(0, "tanh")
    symmetry = find_symmetry([network])
    element = identity(symmetry)
    element.sign[:] = random_flat(symmetry, 2).sign
    model = a_model(encode_network(network.graph, tensors))
    passing = model.passing
    assert passing is not None

    def first_hidden(weights: Tensors) -> tuple[Plan, Tensor, Tensor]:
        (group,) = encode_network(network.graph, weights).groups
        states = passing._upward(group.plan, group, [passing.edges(each) for each in group.edges])
        state = states[network.graph.ops[1].output]
        return group.plan, state.even, state.odd

    with torch.no_grad():
        _, even, odd = first_hidden(tensors)
        _, even_moved, odd_moved = first_hidden(moved(network, tensors, element))
    signs = torch.from_numpy(element.sign[: even.shape[1]])[:, None]
    assert float((even_moved - even).abs().max()) < 1e-12
    assert float((odd_moved - signs * odd).abs().max()) < 1e-12
    assert float((odd_moved - odd).abs().max()) > 1e-3
    assert isinstance(passing, nn.Module)
