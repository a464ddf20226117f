"""Fits of INRs: many at a time against a plain loop over single images, the same steps from the same weights, in one run.

    python benchmarks/inr_fitting.py --images mnist --count 256 --loop 8 --steps 200

The plain loop is what people write: a torch module of nn.Linear layers, torch.optim.Adam with a cosine schedule, one image
after the other, on as many threads. Reported are the time of a fit, the ratio, and the mean PSNR of the images that both fitted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from figures import figure
from torch import nn

from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo.images import read_images
from nfn_cli.zoo.native_sine_fit import has_native_fit
from nfn_cli.zoo.sine_fit import FitSettings, fit_sines
from nfn_cli.zoo.sine_network import SineNetwork


class Siren(nn.Module):
    """sin(30 (W x + b)) twice, then a linear layer."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
        super().__init__()
        self.layers = nn.ModuleList()
        for layer in range(3):
            weight, bias = (torch.from_numpy(tensors[f"layers.{layer}.{role}"].copy()) for role in ("weight", "bias"))
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = weight, bias
            self.layers.append(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.sin(30 * layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


def plain_fit(siren: Siren, points: torch.Tensor, target: torch.Tensor, steps: int, rate: float) -> float:
    """Mean squared error at the end."""
    optimizer = torch.optim.Adam(siren.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = ((siren(points) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(((siren(points) - target) ** 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--loop", type=int, default=8, help="of them fitted by the plain loop too")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.005)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    how = parser.parse_args()
    torch.set_num_threads(how.threads)
    images = read_images(how.images, None).train.images[: how.count]
    count, height, width, channels = images.shape
    targets = (images.reshape(count, -1, channels).transpose(0, 2, 1) / 255).astype(np.float32)
    network, points = (
        SineNetwork((2, 32, 32, channels), (30.0, 30.0)),
        Coordinates().grid(height, width).T.astype(np.float32),
    )
    initial = network.initial(np.full(count, "siren"), np.random.default_rng(0))
    settings = FitSettings(np.full(count, how.rate), np.full(count, how.steps), np.zeros(count))
    batch, loop = [], []
    has_native_fit(3)  # compiled before the clock starts
    for _ in range(how.repeats):
        start = time.perf_counter()
        fitted = fit_sines(network, points, targets, initial, settings, threads=how.threads)
        batch.append((time.perf_counter() - start) / count)
        start = time.perf_counter()
        errors = [
            plain_fit(
                Siren({name: tensor[row] for name, tensor in network.tensors(initial).items()}),
                torch.from_numpy(points.T.copy()),
                torch.from_numpy(targets[row].T.copy()),
                how.steps,
                how.rate,
            )
            for row in range(how.loop)
        ]
        loop.append((time.perf_counter() - start) / how.loop)
    psnr = [-10 * np.log10(np.maximum(each, 1e-14)).mean() for each in (fitted.errors[: how.loop], errors)]
    print(f"compiled: {has_native_fit(3)}; {how.steps} steps, {how.threads} threads, {height}×{width}×{channels}")
    print(f"many at a time  {1e3 * min(batch):8.2f} ms a fit  {psnr[0]:.2f} dB")
    print(f"plain loop      {1e3 * min(loop):8.2f} ms a fit  {psnr[1]:.2f} dB")
    print(f"ratio           {min(loop) / min(batch):8.1f}")
    figure("speed", min(loop) / min(batch))


if __name__ == "__main__":
    main()
