"""Small inputs for the tests of zoo making."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.zoo.population import Architecture, ConvLayer, Settings, draw_settings

PLAIN = Architecture(1, 9, 8, 4, (ConvLayer(8, 2), ConvLayer(16, 1)), "tanh")
NORMED = Architecture(2, 8, 8, 3, (ConvLayer(8, 2), ConvLayer(8, 1)), "leaky_relu", batch_norm=True)
RESIDUAL = Architecture(1, 8, 9, 4, (ConvLayer(8, 1), ConvLayer(8, 1), ConvLayer(16, 2)), "gelu", residual=True)
BOTH = replace(RESIDUAL, batch_norm=True, activation="silu")
ARCHITECTURES = {"plain": PLAIN, "normed": NORMED, "residual": RESIDUAL, "both": BOTH}


def settings(count: int, **fixed: Any) -> Settings:
    """Drawn hyper-parameters without dropout, some of them fixed."""
    drawn = replace(draw_settings(np.random.default_rng(0), count), dropout=np.zeros(count))
    return replace(drawn, **{name: np.array(value) for name, value in fixed.items()})


def minibatches(architecture: Architecture, count: int, size: int = 12) -> list[tuple[Any, Any]]:
    generator = np.random.default_rng(5)
    shape = (size, architecture.height, architecture.width, architecture.channels)
    return [
        (
            generator.integers(0, 256, shape).astype(np.uint8),
            generator.integers(0, architecture.classes, size).astype(np.int64),
        )
        for _ in range(count)
    ]


def image_file(path: Path, train: int = 60, classes: int = 3, size: int = 8, seed: int = 0) -> Path:
    """A folder with train.npz and test.npz whose classes differ in brightness."""
    generator = np.random.default_rng(seed)
    path.mkdir()
    for name, count in (("train", train), ("test", 20)):
        labels = generator.integers(0, classes, count).astype(np.uint8)
        images = (generator.integers(0, 80, (count, size, size)) + 60 * labels[:, None, None]).astype(np.uint8)
        np.savez(path / f"{name}.npz", images=images, labels=labels)
    return path
