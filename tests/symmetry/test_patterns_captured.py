"""Modules as torch runs them: captured, moved by a random element, loaded back and run by torch itself, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from .test_patterns import acted


def upsampler() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 16, 2, stride=2, groups=2),
        nn.ReLU(),
        nn.PixelShuffle(2),
        nn.Conv2d(4, 2, 3),
    )


class ShuffleUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        left, right = torch.relu(self.stem(x)).chunk(2, dim=1)
        joined = torch.cat([left, torch.relu(self.branch(right))], 1)
        return self.last(nn.functional.channel_shuffle(joined, 2))


class StandardizedConv(nn.Conv2d):
    """Weights standardized for each filter, then a gain (as in normalizer-free networks)."""

    def __init__(self, into: int, out: int, groups: int) -> None:
        super().__init__(into, out, 3, padding=1, groups=groups)
        self.gain = nn.Parameter(torch.rand(out, 1, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, self.gain.view(-1), training=True, momentum=0.0
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, padding=1, groups=self.groups)


def normalizer_free(groups: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), StandardizedConv(10, 8, groups), nn.ReLU(), nn.Conv2d(8, 2, 1))


# module -> size, permutable and block size of its unit sets
MODULES: dict[str, tuple[Any, list[tuple[int, bool, int]]]] = {
    "upsampler": (upsampler, [(8, True, 4), (4, True, 2)]),
    "shuffle-unit": (ShuffleUnit, [(4, True, 0), (4, True, 0), (4, True, 0)]),
    "normalizer-free": (lambda: normalizer_free(1), [(10, True, 0), (8, True, 0)]),
    "normalizer-free-groups": (lambda: normalizer_free(2), [(5, True, 0), (4, True, 0), (4, True, 0)]),
}


def captured(name: str) -> tuple[nn.Module, Network, Symmetry, torch.Tensor]:
    torch.manual_seed(0)
    module = MODULES[name][0]().double().eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    graph = graph_from_export(torch.export.export(module, (x,), strict=False))
    network = Network("", "cnn", graph)
    return module, network, find_symmetry([network]), x


@pytest.mark.parametrize("name", MODULES)
def test_a_captured_module_keeps_its_function(name: str) -> None:
    module, network, symmetry, x = captured(name)
    assert [(s.size, s.permutable, s.block_size) for s in symmetry.unit_sets] == MODULES[name][1]
    with torch.no_grad():
        before = module(x)
        state = {key: value.numpy().copy() for key, value in module.state_dict().items()}
        own = {key: value for key, value in state.items() if key in network.graph.parameter_shapes}
        moved = acted(own, symmetry, random_flat(symmetry, 0))
        assert any(not np.allclose(moved[key], own[key]) for key in own)
        module.load_state_dict({key: torch.tensor(value) for key, value in {**state, **moved}.items()})
        assert float((module(x) - before).abs().max() / before.abs().max()) < 1e-10
