"""Fits of sine networks: what the compiled form, PyTorch and a plain loop make of the same images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo import sine_fit
from nfn_cli.zoo.native_sine_fit import has_native_fit
from nfn_cli.zoo.sine_fit import FitSettings, fit_sines
from nfn_cli.zoo.sine_network import INITIALIZATIONS, SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
NETWORKS = [
    SineNetwork((2, 32, 32, 1), (30.0, 30.0)),
    SineNetwork((2, 7, 3), (12.5,)),
    SineNetwork((3, 5, 9, 6, 2), (30.0, 4.0, 1.0)),
]


def _task(network: SineNetwork, count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    points = generator.uniform(-1, 1, (network.widths[0], 45)).astype(np.float32)
    targets = generator.random((count, network.widths[-1], 45)).astype(np.float32)
    initial = network.initial(generator.choice(INITIALIZATIONS, count), generator)
    return points, targets, initial


def _settings(count: int, steps: int, rate: float = 2e-3, enough: float = 0.0) -> FitSettings:
    return FitSettings(np.full(count, rate), np.full(count, steps), np.full(count, enough))


def _plain_loop(network: SineNetwork, points: Array, target: Array, flat: Array, rate: float, steps: int) -> Array:
    """One network by torch.optim.Adam, in float64."""
    tensors = {name: torch.tensor(t[0], dtype=torch.float64) for name, t in network.tensors(flat[None]).items()}
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        value = torch.tensor(points.T, dtype=torch.float64)
        for layer in range(len(network.widths) - 1):
            value = value @ leaves[f"layers.{layer}.weight"].T + leaves[f"layers.{layer}.bias"]
            if layer < len(network.omegas):
                value = torch.sin(network.omegas[layer] * value)
        optimizer.zero_grad()
        ((value - torch.tensor(target.T)) ** 2).mean().backward()
        optimizer.step()
        schedule.step()
    return np.concatenate([leaf.detach().numpy().reshape(-1) for leaf in leaves.values()])


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and not has_native_fit(3):
        pytest.skip("no C compiler here")
    if request.param == "torch":
        monkeypatch.setattr(sine_fit, "has_native_fit", lambda layers: False)
    return str(request.param)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_every_way_takes_the_steps_of_adam(network: SineNetwork, way: str) -> None:
    points, targets, initial = _task(network, 3)
    found = fit_sines(network, points, targets, initial, _settings(3, 12)).parameters
    for row in range(3):
        expected = _plain_loop(network, points, targets[row], initial[row], 2e-3, 12)
        np.testing.assert_allclose(found[row], expected, atol=2e-4)
        assert np.abs(expected - initial[row]).max() > 5e-3  # they did move
    other = _plain_loop(network, points, targets[1], initial[0], 2e-3, 12)
    assert np.abs(found[0] - other).max() > 1e-3


def test_a_fit_depends_on_nothing_beside_it(way: str) -> None:
    network = NETWORKS[0]
    points, targets, initial = _task(network, 20)
    together = fit_sines(network, points, targets, initial, _settings(20, 15), threads=2)
    alone = fit_sines(network, points, targets[13:14], initial[13:14], _settings(1, 15))
    same = together.parameters[13:14], alone.parameters
    if way == "compiled":
        assert np.array_equal(*same)
    else:
        np.testing.assert_allclose(*same, atol=1e-5)


def test_a_fit_stops_when_it_is_good_enough(way: str) -> None:
    network = NETWORKS[0]
    points, targets, initial = _task(network, 4)
    settings = FitSettings(np.full(4, 5e-3), np.array([400, 400, 3, 400]), np.array([1e-2, 1e-3, 1e-9, 0.0]))
    found = fit_sines(network, points, targets, initial, settings)
    assert found.steps[0] < found.steps[1] < 400
    assert found.errors[0] <= 1e-2
    assert (found.steps[2], found.steps[3]) == (3, 400)
    values = torch.tensor(points.T, dtype=torch.float64)
    flat = {name: torch.tensor(t[1], dtype=torch.float64) for name, t in network.tensors(found.parameters).items()}
    for layer in range(3):
        values = values @ flat[f"layers.{layer}.weight"].T + flat[f"layers.{layer}.bias"]
        values = torch.sin(30 * values) if layer < 2 else values
    assert float(((values.T - torch.tensor(targets[1])) ** 2).mean()) == pytest.approx(float(found.errors[1]), rel=1e-3)


def test_the_compiled_sine_is_a_sine_over_many_turns() -> None:
    """One hidden layer with large phases: the error of the fit is that of its function, computed in float64."""
    if not has_native_fit(2):
        pytest.skip("no C compiler here")
    network = SineNetwork((1, 4, 1), (30.0,))
    points = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    flat = np.array([[1.0, -3.0, 9.0, 20.0, 0.1, 4.0, -9.0, 30.0, 0.5, -1.0, 0.7, 0.2, 0.0]], np.float32)
    target = np.zeros((1, 1, 64), np.float32)
    found = fit_sines(network, points, target, flat, _settings(1, 0))
    phases = 30 * (flat[0, :4, None].astype(np.float64) * points.astype(np.float64) + flat[0, 4:8, None])
    values = flat[0, 8:12].astype(np.float64) @ np.sin(phases)
    assert float(found.errors[0]) == pytest.approx(float((values**2).mean()), rel=2e-4)


def test_pixels_lie_row_by_row_from_edge_to_edge_or_in_the_middle_of_cells() -> None:
    rows, columns = Coordinates().grid(3, 2).T
    assert rows.tolist() == [-1, -1, 0, 0, 1, 1]
    assert columns.tolist() == [-1, 1] * 3
    rows, _ = Coordinates(centred=True).grid(4, 1).T
    assert rows.tolist() == [-0.75, -0.25, 0.25, 0.75]
