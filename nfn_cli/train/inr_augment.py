"""train/inr_augment.py: batches of INRs seen a little differently while training. Knows what members read; no zoo.

What shows an image a little moved is still of its class. Answers at probes are sampled anew; weights are changed so that
the network shows the moved image, which is exact: only the first layer sees coordinates. With some probability rows
and columns change places, which makes another class: that of the same image in the other order of coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.networks.inr_pixels import Pixels, standardized
from nfn_cli.networks.inr_sines import Sines


@dataclass(frozen=True, slots=True)
class InrAugment:
    """How far.

    Attributes:
        classes: labels below it are of INRs that show the data set; those keep being 2 · classes (or classes) otherwise.
        shift: largest, of the image's half side; zoom: largest logarithm; turn: largest angle, radians.
        exchanged: how often rows and columns change places.
        mirrored: how often left and right do, which keeps the class.
        noise: largest deviation of noise on answers, relative to theirs.
        kept: how often an INR is neither shifted, zoomed nor turned: between the pixels it was fitted to, it shows noise.
    """

    classes: int
    shift: float = 0.12
    zoom: float = 0.12
    turn: float = 0.17
    exchanged: float = 0.0
    mirrored: float = 0.0
    noise: float = 0.25
    kept: float = 0.4

    def __call__(self, batch: Any, target: Tensor) -> tuple[Any, Tensor]:
        matrix, shift = self._maps(len(target))
        exchanged = (torch.rand(len(target)) < self.exchanged) & (target < self.classes)
        # probes of the exchanged image lie where those of the image do with the two coordinates swapped
        matrix = torch.where(exchanged[:, None, None], matrix.flip(1), matrix)
        shift = torch.where(exchanged[:, None], shift.flip(1), shift)
        target = torch.where(exchanged, target + self.classes, target)
        if isinstance(batch, Sines):
            return batch.read_at(matrix, shift), target
        return self._sampled(batch, matrix, shift), target

    def _maps(self, count: int) -> tuple[Tensor, Tensor]:
        """(n, 2, 2), (n, 2): where the image is read, for a point of the plane, row first."""
        far = (torch.rand(count) >= self.kept).float()
        angle = (2 * torch.rand(count) - 1) * self.turn * far
        zoom = torch.exp((2 * torch.rand(count) - 1) * self.zoom * far)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        mirror = torch.where(torch.rand(count) < self.mirrored, -1.0, 1.0)
        matrix = torch.stack([torch.stack([cos, sin * mirror], 1), torch.stack([-sin, cos * mirror], 1)], 1)
        return matrix, (2 * torch.rand(count, 2) - 1) * self.shift * far[:, None]

    def _sampled(self, pixels: Pixels, matrix: Tensor, shift: Tensor) -> Pixels:
        values = standardized(pixels.values.float())
        # grid_sample names the column first
        theta = torch.cat([matrix.flip(1, 2), shift.flip(1)[..., None]], 2)
        grid = functional.affine_grid(theta, list(values.shape), align_corners=False)
        values = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
        level = self.noise * torch.rand(len(values), 1, 1, 1) ** 3
        return Pixels(values + level * torch.randn_like(values))
