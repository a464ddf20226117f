"""Networks trained together become what each would have become alone, and the graph in the file is the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from nfn_cli.graph.reference import evaluate
from nfn_cli.zoo.batched_cnn import CnnGroup
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.layer_end import FUNCTIONS
from nfn_cli.zoo.population import Architecture, Settings, initial_tensors
from tests.zoo.making import ARCHITECTURES, NORMED, PLAIN, minibatches, settings

STEPS = 4


def alone(
    architecture: Architecture, chosen: Settings, row: int, tensors: dict[str, Any], batches: Any
) -> dict[str, Any]:
    """The obvious way: one network, torch's convolution, batch norm and optimizer, in float64."""
    parameters = {
        name: torch.tensor(value[row], dtype=torch.float64).requires_grad_() for name, value in tensors.items()
    }
    buffers = {
        name: torch.full(shape, float(name.endswith("var")), dtype=torch.float64)
        for name, shape in architecture.buffer_shapes().items()
    }
    weights = [value for value in parameters.values() if value.ndim > 1]
    others = [value for value in parameters.values() if value.ndim == 1]
    groups = [{"params": weights, "weight_decay": 2.0 * float(chosen.l2reg[row])}, {"params": others}]
    rate = float(chosen.learning_rate[row])
    optimizer: torch.optim.Optimizer = {
        "adam": lambda: torch.optim.Adam(groups, rate),
        "rmsprop": lambda: torch.optim.RMSprop(groups, rate),
        "sgd": lambda: torch.optim.SGD(groups, rate, momentum=0.9),
    }[str(chosen.optimizer[row])]()
    for images, labels in batches:
        x = torch.tensor(images).double().permute(0, 3, 1, 2) / 127.5 - 1.0
        for index, layer in enumerate(architecture.layers):
            y = functional.conv2d(
                x, parameters[f"convs.{index}.weight"], parameters.get(f"convs.{index}.bias"), layer.stride, 1
            )
            if architecture.batch_norm:
                name = f"norms.{index}."
                statistics = buffers[name + "running_mean"], buffers[name + "running_var"]
                y = functional.batch_norm(y, *statistics, parameters[name + "weight"], parameters[name + "bias"], True)
            if architecture.residual and index:
                shortcut = parameters.get(f"shortcuts.{index}.weight")
                y = y + (x if shortcut is None else functional.conv2d(x, shortcut, None, layer.stride))
            x = FUNCTIONS[architecture.activation](y)
        logits = functional.linear(x.mean((2, 3)), parameters["head.weight"], parameters["head.bias"])
        optimizer.zero_grad()
        functional.cross_entropy(logits, torch.tensor(labels)).backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in (parameters | buffers).items()}


def together(
    architecture: Architecture, chosen: Settings, tensors: Any, batches: Any, dtype: torch.dtype = torch.float64
) -> CnnGroup:
    group = CnnGroup(architecture, chosen, tensors, dtype=dtype)
    masks = torch.Generator().manual_seed(0)
    for images, labels in batches:
        group.train_step(torch.tensor(images), torch.tensor(labels), masks)
    return group


def trained(group: CnnGroup, row: int) -> dict[str, Any]:
    values = group._views(group.parameters)
    laid = {name: v.permute(0, 4, 3, 1, 2) if v.ndim == 5 else v for name, v in values.items()}
    return {name: value[row].numpy() for name, value in (laid | group.buffers).items()}


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_of_a_group_is_the_network_trained_alone(name: str) -> None:
    architecture = ARCHITECTURES[name]
    chosen = settings(3, optimizer=["adam", "sgd", "rmsprop"], l2reg=[1e-2, 3e-3, 0.1], learning_rate=[1e-3, 0.1, 1e-3])
    tensors = initial_tensors(architecture, chosen, np.random.default_rng(1))
    batches = minibatches(architecture, STEPS)
    group = together(architecture, chosen, tensors, batches)
    for row in range(3):
        assert distance(trained(group, row), alone(architecture, chosen, row, tensors, batches)) < 1e-10


@pytest.mark.parametrize("change", [{"learning_rate": [1.001e-2]}, {"l2reg": [0.02]}, {"optimizer": ["sgd"]}])
def test_another_hyper_parameter_gives_another_network(change: dict[str, Any]) -> None:
    chosen = settings(1, optimizer=["adam"], learning_rate=[1e-2], l2reg=[0.01])
    tensors = initial_tensors(PLAIN, chosen, np.random.default_rng(1))
    batches = minibatches(PLAIN, STEPS)
    group = together(PLAIN, chosen, tensors, batches)
    changed = settings(1, **({"optimizer": ["adam"], "learning_rate": [1e-2], "l2reg": [0.01]} | change))
    assert distance(trained(group, 0), alone(PLAIN, changed, 0, tensors, batches)) > 1e-6


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_graph_computes_what_the_network_computes_in_evaluation(name: str) -> None:
    architecture = ARCHITECTURES[name]
    chosen = settings(2)
    tensors = initial_tensors(architecture, chosen, np.random.default_rng(1))
    batches = minibatches(architecture, STEPS)
    group = together(architecture, chosen, tensors, batches)
    images = batches[0][0]
    given = {"images": (images / 127.5 - 1.0).transpose(0, 3, 1, 2)}
    for row in range(2):
        (expected,) = evaluate(cnn_graph(architecture), trained(group, row), given)
        np.testing.assert_allclose(group.logits(torch.tensor(images))[row].numpy(), expected, rtol=1e-9, atol=1e-12)
        (other,) = evaluate(cnn_graph(architecture), trained(group, 1 - row), given)
        assert np.abs(other - expected).max() > 1e-3


def test_every_activation_of_a_zoo_is_that_of_its_graph() -> None:
    for activation in FUNCTIONS.keys() - {"identity"}:
        architecture = replace(PLAIN, activation=activation)
        group = CnnGroup(
            architecture,
            settings(1),
            initial_tensors(architecture, settings(1), np.random.default_rng(2)),
            dtype=torch.float64,
        )
        images = minibatches(architecture, 1)[0][0]
        given = {"images": (images / 127.5 - 1.0).transpose(0, 3, 1, 2)}
        (expected,) = evaluate(cnn_graph(architecture), trained(group, 0), given)
        np.testing.assert_allclose(group.logits(torch.tensor(images))[0].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", [PLAIN, NORMED], ids=["plain", "normed"])
def test_a_network_that_diverges_keeps_finite_weights_and_disturbs_nobody(architecture: Architecture) -> None:
    calm = settings(3, optimizer=["sgd"] * 3, learning_rate=[0.01, 0.01, 0.01])
    wild = replace(calm, learning_rate=np.array([0.01, 1e30, 0.01]))
    tensors = initial_tensors(architecture, calm, np.random.default_rng(1))
    batches = minibatches(architecture, 6)
    quiet, mixed = (together(architecture, c, tensors, batches, torch.float32) for c in (calm, wild))
    assert quiet.alive.tolist() == [True, True, True]
    assert mixed.alive.tolist() == [True, False, True]
    for name, value in mixed.tensors().items():
        assert np.isfinite(value).all(), name
        np.testing.assert_array_equal(value[[0, 2]], quiet.tensors()[name][[0, 2]])


def test_dropout_hits_the_networks_that_have_it_and_no_other() -> None:
    dry = settings(2, optimizer=["sgd"] * 2)
    wet = replace(dry, dropout=np.array([0.0, 0.5]))
    tensors = initial_tensors(PLAIN, dry, np.random.default_rng(1))
    batches = minibatches(PLAIN, STEPS)
    without, some = (together(PLAIN, c, tensors, batches) for c in (dry, wet))
    assert distance(trained(without, 0), trained(some, 0)) == 0.0
    assert distance(trained(without, 1), trained(some, 1)) > 1e-4


def test_scores_are_those_of_the_logits() -> None:
    group = CnnGroup(
        PLAIN, settings(2), initial_tensors(PLAIN, settings(2), np.random.default_rng(1)), dtype=torch.float64
    )
    images, labels = (torch.tensor(part) for part in minibatches(PLAIN, 1, size=300)[0])
    accuracy, loss = group.scores(images, labels)
    logits = group.logits(images)
    for row in range(2):
        assert accuracy[row] == pytest.approx(float((logits[row].argmax(-1) == labels).double().mean()))
        assert loss[row] == pytest.approx(float(functional.cross_entropy(logits[row], labels)))
