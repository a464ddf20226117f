"""train/probe_inputs.py: where probes start: blends of training images of one class. Knows images; no network.

A blend of two images, each flipped at random, keeps the statistics of images of its class and is a picture of nothing
in the data: the predictor that is shipped holds no image of the training set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nfn_cli.networks.probing import Probes
from nfn_cli.zoo.images import read_images


def blended_probes(images: Path, channels: int, count: int, seed: int) -> Probes:
    """`count` probes, roles in turn, in [−1, 1] as the networks see images: (count, channels, height, width).

    The deviations of two images from the mean image are added and divided by √2, which keeps their variance.
    """
    training = read_images(images, grey=channels == 1).train
    draw = np.random.default_rng(seed)
    labels = np.asarray(training.labels)
    roles = np.arange(count) % int(labels.max() + 1)
    of_class = [np.flatnonzero(labels == role) for role in range(int(labels.max()) + 1)]
    mean = training.images.mean(0, dtype=np.float64) / 127.5 - 1.0
    total = np.zeros((count, *training.images.shape[1:]))
    for _ in range(2):
        picked = training.images[[draw.choice(of_class[role]) for role in roles]] / 127.5 - 1.0
        flip = draw.random(count) < 0.5
        picked[flip] = picked[flip, :, ::-1]
        total += picked - mean
    inputs = np.clip(mean + total / np.sqrt(2.0), -1.0, 1.0).transpose(0, 3, 1, 2)
    return Probes(torch.from_numpy(np.ascontiguousarray(inputs)).float(), torch.from_numpy(roles))
