"""Pairs of networks for benchmarks/align.py: one architecture trained twice on the same images from different seeds. Torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.api import Model, open_model
from nfn_cli.zoo.images import ImageSet, read_images


class Mlp(nn.Sequential):
    """784-512-512-10."""

    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )


def stage(into: int, out: int, norm: bool, stride: int = 1) -> list[nn.Module]:
    """Two 3×3 convolutions and a halving of both sides."""
    layers: list[nn.Module] = []
    for n, step in ((into, stride), (out, 1)):
        layers += [nn.Conv2d(n, out, 3, step, 1), *([nn.BatchNorm2d(out)] if norm else []), nn.ReLU()]
    return [*layers, nn.MaxPool2d(2)]


class Vgg(nn.Sequential):
    """Six convolutions of 32, 64 and 128 channels and two linear layers."""

    def __init__(self, norm: bool) -> None:
        layers = [*stage(3, 32, norm, 2), *stage(32, 64, norm), *stage(64, 128, norm)]
        super().__init__(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential()
        if into != out:
            self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + (self.shortcut(x) if len(self.shortcut) else x))


class Resnet20(nn.Module):
    """Three stages of three blocks of 16, 32 and 64 channels (arXiv 1512.03385)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        sizes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*size) for size in sizes))
        self.pool, self.flatten, self.head = nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.blocks(self.relu(self.bn(self.conv(x)))))))


@dataclass(frozen=True)
class Setting:
    """A pair's architecture, its images, and how long each of the two is trained."""

    make: Callable[[], nn.Module]
    data: str
    steps: int
    batch: int
    rate: float


SETTINGS = {
    "mlp-mnist": Setting(Mlp, "mnist", 1500, 128, 1e-3),
    "mlp-fashion": Setting(Mlp, "fashion_mnist", 1500, 128, 1e-3),
    "vgg": Setting(lambda: Vgg(False), "cifar10", 500, 64, 2e-3),
    "vgg-bn": Setting(lambda: Vgg(True), "cifar10", 250, 64, 4e-3),
    "resnet20": Setting(Resnet20, "cifar10", 120, 64, 8e-3),
}


@dataclass(frozen=True)
class Images:
    """(n, channels, height, width) in −1 … 1, and classes."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.shape[1:])


def images_of(folder: Path) -> Images:
    data = read_images(folder, grey="mnist" in folder.name)

    def as_inputs(part: ImageSet) -> tuple[Tensor, Tensor]:
        moved = torch.from_numpy(np.ascontiguousarray(np.moveaxis(part.images, -1, 1)))
        return moved.float() / 127.5 - 1.0, torch.from_numpy(part.labels)

    return Images(*as_inputs(data.train), *as_inputs(data.test))


def trained(name: str, seed: int, images: Images, work: Path) -> nn.Module:
    """The network trained from this seed; kept in the work folder."""
    setting = SETTINGS[name]
    torch.manual_seed(seed)
    module = setting.make()
    path = work / f"{name}-{seed}.pt"
    if path.exists():
        module.load_state_dict(torch.load(path, weights_only=True))
        return module.eval()
    started = time.process_time()
    optimizer = torch.optim.Adam(module.parameters(), lr=setting.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, setting.rate, total_steps=setting.steps)
    for _ in range(setting.steps):
        rows = torch.randint(len(images.train), (setting.batch,))
        loss = nn.functional.cross_entropy(module(images.train[rows]), images.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.save(module.state_dict(), path)
    seconds = time.process_time() - started
    print(f"{name}, seed {seed}: {seconds:.0f} s of processor time", file=sys.stderr, flush=True)
    return module.eval()


def opened(module: nn.Module, shape: tuple[int, ...], path: Path) -> Model:
    """The network as the tool sees it: exported, then read from the archive."""
    if not path.exists():
        torch.export.save(torch.export.export(module, (torch.zeros(2, *shape),)), path)
    return open_model(path)
