"""Tiny zoos in our own form, of any architectures; a network's score depends on the level of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nfn_cli.graph.model import Graph
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.population import Architecture, ConvLayer
from nfn_cli.zoo.store import create_zoo, write_shard

RELU = Architecture(1, 8, 8, 3, (ConvLayer(4, 2), ConvLayer(4, 1)), "relu")
TANH = Architecture(1, 8, 8, 3, (ConvLayer(4, 2), ConvLayer(4, 1)), "tanh")
MIXED = Architecture(1, 8, 8, 3, (ConvLayer(4, 1), ConvLayer(6, 2)), "leaky_relu", batch_norm=True, residual=True)


def stack(graph: Graph, levels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights (n, *shape) of networks whose weights have these standard deviations; statistics of norms are positive."""
    made = {}
    for name, shape in sorted(graph.parameter_shapes.items()):
        level = levels.reshape(-1, *(1,) * len(shape))
        noise = rng.standard_normal((len(levels), *shape))
        made[name] = (np.exp(noise / 4) if name.endswith("running_var") else level * noise).astype(np.float32)
    return made


def write_made_zoo(
    folder: Path, *architectures: Architecture, runs: int = 24, seed: int = 0, names: Sequence[str] = ()
) -> Path:
    """A shard of `runs` runs for each architecture, two checkpoints a run; run names start with the shard's number."""
    create_zoo(folder, "made for a test")
    rng = np.random.default_rng(seed)
    for number, architecture in enumerate(architectures):
        graph = cnn_graph(architecture)
        levels = rng.uniform(0.3, 1.5, 2 * runs)
        own = names or [f"{number}-{run}" for run in range(runs)]
        columns = {
            "run": np.repeat(np.array(own, dtype=object), 2),
            "step": [1, 2] * runs,
            "laststep": [2] * (2 * runs),
            "test_accuracy": np.round(0.1 + 0.4 * np.tanh(levels), 4),
        }
        write_shard(folder, f"{number:03}", graph, stack(graph, levels, rng), columns)
    return folder
