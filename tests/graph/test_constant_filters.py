"""Kernels that are part of the program (blur pools) and padding that repeats what is there cost no symmetry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry


class BlurNet(nn.Module):
    """Anti-aliased downsampling (Zhang 2019, arXiv 1904.11486), its kernel kept out of the state dict."""

    def __init__(self, mode: str, same: bool = True) -> None:
        super().__init__()
        self.stem, self.head, self.mode = nn.Conv2d(3, 600, 1), nn.Conv2d(600, 4, 1), mode
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(row, row).expand(600, 1, 3, 3).clone()
        if not same:
            kernel[1] *= 2
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(torch.relu(self.stem(x)), (1, 1, 1, 1), mode=self.mode)
        return self.head(nn.functional.conv2d(x, self.kernel, stride=2, groups=600))


class PaddedShortcut(nn.Module):
    """The parameter-free shortcut of He et al. 2015 (option A): every second position, channels padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        shortcut = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(torch.relu(self.body(x) + shortcut))


def captured(module: nn.Module) -> tuple[nn.Module, Graph, torch.Tensor]:
    torch.manual_seed(0)
    module = module.double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    return module, graph_from_export(torch.export.export(module, (x,), strict=False)), x


def agreement(module: nn.Module, graph: Graph, x: torch.Tensor) -> float:
    tensors = {name: value.numpy() for name, value in module.state_dict().items()}
    (answer,) = evaluate(graph, tensors, {graph.inputs[0].name: x.numpy()})
    return float(np.max(np.abs(answer - module(x).detach().numpy())))


def change_under_a_random_element(module: nn.Module, graph: Graph, x: torch.Tensor) -> float:
    tensors = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    symmetry = find_symmetry([Network("", "cnn", graph)])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 0))
    before = module(x).detach()
    module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(view[name])) for name in view})
    return float((module(x).detach() - before).abs().max() / before.abs().max())


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_blur_pools_pass_everything(mode: str) -> None:
    module, graph, x = captured(BlurNet(mode))
    assert agreement(module, graph, x) < 1e-12
    symmetry = find_symmetry([Network("", "cnn", graph)])
    assert [(s.size, s.permutable, s.families["scale"]) for s in symmetry.unit_sets] == [(600, True, 1)]
    assert symmetry.opaque == ((),)
    assert change_under_a_random_element(module, graph, x) < 1e-12


def test_kernels_that_differ_hold_the_channels_still() -> None:
    _, graph, _ = captured(BlurNet("constant", same=False))
    assert find_symmetry([Network("", "cnn", graph)]).unit_sets == ()


def test_a_shortcut_padded_with_zeros_moves_what_it_carries() -> None:
    module, graph, x = captured(PaddedShortcut())
    assert agreement(module, graph, x) < 1e-12
    symmetry = find_symmetry([Network("", "cnn", graph)])
    assert sorted((s.size, s.permutable, s.families["scale"]) for s in symmetry.unit_sets) == [
        (4, True, 1),
        (4, True, 1),
    ]
    assert change_under_a_random_element(module, graph, x) < 1e-12


def test_a_wrong_exchange_is_noticed() -> None:
    """Negative control: a carried channel exchanged with one that is padded changes the function."""
    module, _, x = captured(PaddedShortcut())
    before = module(x).detach()
    order = torch.tensor([2, 1, 0, 3, 4, 5, 6, 7])
    with torch.no_grad():
        module.body.weight.copy_(module.body.weight[order])
        module.body.bias.copy_(module.body.bias[order])
        module.head.weight.copy_(module.head.weight[:, order])
    assert float((module(x).detach() - before).abs().max()) > 1e-3
