"""Make a population of small CNNs for benchmarks/fingerprint.py: python benchmarks/fingerprint_population.py IMAGES -o ZOO

Each of --runs networks, 50,000 by default (relu and tanh in turns; optimizer, learning rate, L2, dropout and initialization
drawn as `nfn zoo train-cnns` draws them), trains --steps steps on its own, on IMAGES at half their size, and is stored half-way
and at the end: 100,000 networks. The training is short because only the weights count here: about 11 ms a run on one core. A run
that was stopped goes on with the same command. Where a network diverged or died, its two rows may hold the same weights.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from nfn_cli.zoo.images import ImageSet, read_images
from nfn_cli.zoo.training_run import MakingPlan, make_zoo

_TRAIN, _TEST = 256, 32  # images: scoring would cost more than the training
_GROUP = 32
_BATCH = 16


def few_and_small(part: ImageSet, count: int) -> ImageSet:
    """The first images, every other pixel."""
    return replace(part, images=np.ascontiguousarray(part.images[:count, ::2, ::2]), labels=part.labels[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    whole = read_images(arguments.images, True)
    images = replace(whole, train=few_and_small(whole.train, _TRAIN), test=few_and_small(whole.test, _TEST))
    checkpoints = (max(1, arguments.steps // 2), arguments.steps)
    plan = MakingPlan("small-cnn", ("relu", "tanh"), arguments.seed, _GROUP, checkpoints, _BATCH, "float32", "cpu")
    make_zoo(arguments.output, plan, images, -(-arguments.runs // _GROUP))


if __name__ == "__main__":
    main()
