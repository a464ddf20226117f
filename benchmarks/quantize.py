"""What equalizing does for int8 weights: python benchmarks/quantize.py [accuracy] [time] [--data FOLDER] [--work FOLDER]

accuracy: three small networks are trained on the images of FOLDER (trained weights are kept in the work folder), then their weights
are rounded to int8 with one step a tensor: as trained, with batch norms folded only, and in the equalized form; and all that
again after a random rescaling of every unit by U[1, 10⁴], which keeps the function. Accuracy is that of the plain torch module
on the test images. time: quantization-report on a file of ResNet-50's shape, the whole process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from figures import figure
from known_networks import measured, weights
from torch import Tensor, nn

import nfn_cli
from nfn_cli.api import Model, open_model
from nfn_cli.canonical import CanonicalOptions, canonicalize
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import identity
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.zoo.images import ImageSet, read_images

Tensors = dict[str, np.ndarray]
CIFAR10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"


def conv(into: int, out: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions by turns, each with batch norm and relu."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(channels, 32, 2), nn.ReLU()]
        for into, out, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 192, 2)):
            layers += [conv(into, into, stride, into), nn.ReLU(), conv(into, out, kernel=1), nn.ReLU()]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(192, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(into, out, stride), conv(out, out)
        self.shortcut = conv(into, out, stride, kernel=1) if into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Residual(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = conv(channels, 24, 2)
        self.blocks = nn.Sequential(Block(24, 24, 1), Block(24, 48, 2), Block(48, 48, 1), Block(48, 96, 2))
        self.head = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


class Plain(nn.Module):
    """Convolutions and linear layers, no norm."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in ((channels, 32), (32, 64), (64, 96)):
            layers += [nn.Conv2d(into, out, 3, 2, 1), nn.ReLU()]
        self.layers, self.hidden, self.head = nn.Sequential(*layers), nn.Linear(96, 128), nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.layers(x).mean((2, 3)))))


KINDS = {"depthwise-separable": Separable, "residual": Residual, "plain": Plain}


def as_inputs(part: ImageSet) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(part.images, -1, 1)))
    return images.float() / 127.5 - 1.0, torch.from_numpy(part.labels)


def train(model: nn.Module, part: ImageSet, steps: int, batch: int) -> None:
    images, labels = as_inputs(part)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        x = images[rows]
        x = x.flip(-1) if torch.rand((), generator=generator) < 0.5 else x
        loss = nn.functional.cross_entropy(model(x), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def trained(kind: str, data: str, train_set: ImageSet, classes: int, work: Path, steps: int, batch: int) -> nn.Module:
    torch.manual_seed(0)
    model = KINDS[kind](train_set.images.shape[-1], classes)
    path = work / f"{kind}-{data}-{steps}x{batch}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        started = time.process_time()
        train(model, train_set, steps, batch)
        torch.save(model.state_dict(), path)
        print(f"{kind}: {steps} steps, {time.process_time() - started:.0f} s of processor time", file=sys.stderr)
    return model.eval()


def opened(model: nn.Module, shape: tuple[int, ...], work: Path) -> Model:
    """The network as the tool sees it: exported, then read from the archive."""
    path = work / "exported.pt2"
    torch.export.save(torch.export.export(model, (torch.zeros(2, *shape),)), path)
    return open_model(path)


def rescaled(model: Model, tensors: Tensors, seed: int) -> Tensors:
    """Every scale of the group drawn from U[1, 10⁴]."""
    symmetry = find_symmetry(model.networks, model.checkpoint.aliases)
    element, classes = identity(symmetry), symmetry.classes["scale"]
    element.scale[:] = np.random.default_rng(seed).uniform(1.0, 1e4, int(classes.max(initial=-1)) + 1)[classes]
    view = TransformedTensors(tensors, model.checkpoint.aliases, symmetry, element)
    return {name: np.asarray(view[name]) for name in view}


def form(model: Model, tensors: Tensors, scale: str, fold: bool) -> Tensors:
    checkpoint = model.checkpoint.with_tensors(tensors)
    made = canonicalize(checkpoint, model.networks, CanonicalOptions(scale, fold_batch_norm=fold))
    return {name: np.array(made.checkpoint.tensors[name]) for name in tensors}


def accuracy(module: nn.Module, tensors: Tensors, part: tuple[Tensor, Tensor], bits: int | None) -> float:
    """Of the torch module with these tensors; with `bits`, weights of layers rounded with one step each."""
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    for name, array in state.items():
        if bits is not None and array.ndim >= 2:
            step = array.abs().max() / (2 ** (bits - 1) - 1)
            state[name] = torch.round(array / step) * step
    module.load_state_dict(state, strict=False)
    images, labels = part
    with torch.inference_mode():
        found = torch.cat([module(images[start : start + 500]).argmax(1) for start in range(0, len(images), 500)])
    return float((found == labels).double().mean()) * 100


def accuracies(folder: Path, work: Path, steps: int, batch: int) -> bool:
    data = read_images(folder, grey=False)
    test = as_inputs(data.test)
    lost: list[float] = []
    turned: list[float] = []
    print(f"test accuracy on {data.name} (%), int8 weights with one step a tensor; = after a rescaling by U[1, 10⁴]")
    print("| network | float | int8 as trained | folded only | equalize | equalize, folded | = as trained | = folded only |"
          " = equalize | = equalize, folded |")  # fmt: skip
    print("| --- |" + " --- |" * 9)
    for kind in KINDS:
        module = trained(kind, data.name, data.train, data.classes, work, steps, batch)
        model = opened(module, (data.train.images.shape[-1], *data.train.images.shape[1:3]), work)
        names = [name for network in model.networks for name in network.graph.parameter_shapes]
        plain = {name: np.array(model.checkpoint.tensors[name]) for name in names}
        exact = accuracy(module, plain, test, None)
        row = []
        for tensors in (plain, rescaled(model, plain, seed=1)):
            forms = [
                tensors,
                *(form(model, tensors, *how) for how in (("none", True), ("equalize", False), ("equalize", True))),
            ]
            row += [accuracy(module, each, test, 8) for each in forms]
        print(f"| {kind} | {exact:.2f} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)
        lost.append(exact - row[3])
        turned.append(abs(row[3] - row[7]))
    good = max(lost) <= 0.9 and max(turned) <= 0.1
    figure("lost", max(lost))
    figure("moved", max(turned))
    print("within 0.9 points of float, and the same ±0.1 after rescaling:", "yes" if good else "NO")
    return good


def timing(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        weights("torchvision:resnet50", path)
        base, _ = measured([sys.executable, "-c", "import torch"], runs)
        seconds, memory = measured([sys.executable, "-m", "nfn_cli.cli.main", "quantization-report", str(path)], runs)
        print(
            f"ResNet-50 quantization-report: {seconds:.2f} s, beside import torch {base:.2f} s; peak {memory / 1e6:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["accuracy", "time"])
    parser.add_argument("--data", type=Path, default=CIFAR10)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "nfn-quantize")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    good = True
    if "accuracy" in options.parts:
        options.work.mkdir(parents=True, exist_ok=True)
        try:
            good = accuracies(options.data, options.work, options.steps, options.batch)
        except nfn_cli.NfnError as error:
            sys.exit(str(error))
    if "time" in options.parts:
        timing(options.runs)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
