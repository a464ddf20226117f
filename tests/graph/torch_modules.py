"""Networks as torch modules for the graph front ends, and what it takes to compare a module with a graph of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nfn_cli.graph.model import Graph
from nfn_cli.graph.reference import evaluate, random_inputs


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Residual(nn.Module):
    """Batch norm, a residual sum, a concatenation, a flattened head for 8 × 8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.branch, self.side = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(10 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.branch(x))
        x = torch.cat([x, torch.relu(self.side(x))], 1)
        x = self.pool(x)
        return self.head(x.view(x.size(0), -1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * gate).mean([2, 3]))


class Grouped(nn.Module):
    """A grouped and a depthwise convolution, and channels shuffled between groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2)
        self.deep, self.head = nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.grouped(F.relu(self.stem(x))), 0.2)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.head(F.relu6(self.deep(x))).mean((2, 3))


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.wide(x).chunk(2, 1)
        return self.head(left * torch.sigmoid(right)).flatten(2).amax(2)


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.again(x))
        return self.last(torch.tanh(self.again(x)))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.next = nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 1)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        y = self.next(x)
        y += 1.0
        y.mul_(0.5).relu_()
        return self.drop(y).mean((2, 3))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = nn.Linear(4, 9), nn.Linear(9, 2), nn.Linear(9, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.elu(self.trunk(x))
        return torch.softmax(self.actor(x), -1), self.critic(x)


MODULES: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (Mlp, (2, 5)),
    "residual": (Residual, (2, 3, 8, 8)),
    "squeeze_excite": (SqueezeExcite, (2, 3, 9, 9)),
    "grouped": (Grouped, (2, 3, 9, 9)),
    "cut": (Cut, (2, 3, 7, 7)),
    "shared": (Shared, (2, 5)),
    "in_place": (InPlace, (2, 3, 6, 6)),
    "two_heads": (TwoHeads, (2, 4)),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    """(module in evaluation mode with random statistics, example input)."""
    torch.manual_seed(0)
    factory, shape = MODULES[name]
    module = factory().to(dtype).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            part.weight.data.normal_()
            part.bias.data.normal_()
    return module, torch.randn(shape, dtype=dtype)


def as_tuple(made: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)


def residual(module: nn.Module, graph: Graph, tensors: Mapping[str, np.ndarray]) -> float:
    """Largest difference between module and graph on a random input of the graph's, over the largest output."""
    inputs = random_inputs(graph, 0)
    (x,) = inputs.values()
    with torch.no_grad():
        wanted = as_tuple(module(torch.from_numpy(x.copy())))
    answers = evaluate(graph, tensors, inputs)
    assert [a.shape for a in answers] == [tuple(w.shape) for w in wanted]
    return max(float(np.abs(a - w.numpy()).max() / w.abs().max()) for a, w in zip(answers, wanted, strict=True))
