"""networks/inr_pixels.py: a small convolutional network on what INRs answer at probes on a grid. Torch; no graph, no file.

Whatever depends on the function alone is blind to every symmetry. Values are standardized for each network, so that the
range of pixel values does not show either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_SOFTENING = 1e-6
_SHARPNESS = 60.0


@dataclass(frozen=True, slots=True)
class Pixels:
    """(n, channels, height, width) answers at the probes."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Pixels:
        return Pixels(self.values[rows])

    def to(self, dtype: torch.dtype) -> Pixels:
        """The same in another dtype."""
        return Pixels(self.values.to(dtype))


def standardized(values: Tensor) -> Tensor:
    """(n, …) -> the same with mean 0 and variance 1 for each network; one that is constant becomes 0."""
    flat = values.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    deviation = flat.square().mean(1, keepdim=True).add(_SOFTENING**2).sqrt()
    return (flat / deviation).reshape(values.shape)


def smoother(one: Tensor, other: Tensor) -> Tensor:
    """Two readings (n, c, h, w) of the same images -> for each the smoother one; between equally smooth ones their mean.

    Blended, not chosen: what is read must not jump where both are about as smooth.
    """
    rough = [_roughness(each) for each in (one, other)]
    share = torch.sigmoid(_SHARPNESS * (rough[1] - rough[0]) / (rough[0] + rough[1] + _SOFTENING**2))
    return share * one + (1 - share) * other


def _roughness(values: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 1, 1, 1): mean square of second differences against the variance."""
    spread = values.var((1, 2, 3), correction=0, keepdim=True) + _SOFTENING**2
    down = values[:, :, 2:] - 2 * values[:, :, 1:-1] + values[:, :, :-2]
    right = values[:, :, :, 2:] - 2 * values[:, :, :, 1:-1] + values[:, :, :, :-2]
    return (down.square().mean((1, 2, 3), keepdim=True) + right.square().mean((1, 2, 3), keepdim=True)) / spread


class PixelNet(nn.Module):
    """Blocks of 3×3 convolutions on 2×2 pixels as one, a maximum over 2×2 between blocks, a mean over 2×2 parts at the end.

    Args:
        channels: of the image; outputs: numbers to give.
        blocks: widths of the convolutions of each block.
        dropout: before the last layer, while training.
    """

    def __init__(self, channels: int, outputs: int, blocks: tuple[tuple[int, ...], ...], dropout: float = 0.1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        below = 4 * channels
        for widths in blocks:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(below, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                below = width
            self.blocks.append(nn.Sequential(*layers))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * below, outputs))

    def forward_prepared(self, pixels: Pixels) -> Tensor:
        """(n, outputs)."""
        dtype = next(self.parameters()).dtype
        x = functional.pixel_unshuffle(standardized(pixels.values.to(dtype)), 2)
        x = x.contiguous(memory_format=torch.channels_last)
        for number, block in enumerate(self.blocks):
            x = block(x if number == 0 else functional.max_pool2d(x, 2))
        return torch.as_tensor(self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1)))

    def fit_normalization(self, pixels: Pixels) -> None:
        """Nothing to measure: each network is standardized by itself."""
