"""train/inr_edit_data.py: INRs of a zoo with the pictures that they were fitted to, ready for an editor. No training.

A picture's own split is its INR's: what is fitted to a test picture is never trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.networks.inr import Coordinates, inr_channels, seen_range
from nfn_cli.networks.inr_edit_chain import Frame, Layers, sine_chain, to_layers, values_at
from nfn_cli.zoo.images import ImageData, read_images
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import open_zoo

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class InrPictures:
    """n INRs of one shape.

    Attributes:
        layers: in the units of editing, values as the INRs give them.
        centred: (n,) bool, where pixels lie. pictures: (n, channels, height, width), black 0, white 1.
        low, high: (n,) of the fits; psnr: (n,); index: (n,) of the picture in its part.
    """

    layers: Layers
    centred: Tensor
    pictures: Tensor
    low: Tensor
    high: Tensor
    psnr: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.centred)

    def __getitem__(self, rows: Tensor) -> InrPictures:
        fields = ("centred", "pictures", "low", "high", "psnr", "index")
        return InrPictures(
            tuple((weight[rows], bias[rows]) for weight, bias in self.layers),
            **{name: getattr(self, name)[rows] for name in fields},
        )

    def identity(self) -> str:
        """Tells these rows from others."""
        content = hashlib.sha256()
        for tensor in (self.index, self.psnr, self.low, self.pictures.mean((1, 2, 3))):
            content.update(tensor.numpy().tobytes())
        return content.hexdigest()

    def points(self) -> Tensor:
        """(n, 2, height · width)."""
        height, width = self.pictures.shape[2:]
        grids = [Coordinates(centred=centred).grid(height, width).T for centred in (False, True)]
        both = torch.from_numpy(np.stack(grids)).to(self.pictures)
        return both[self.centred.long()]

    def seen(self) -> tuple[Tensor, Tensor]:
        """(n,) black and white as they are told from the values alone."""
        with torch.no_grad():
            values = values_at(self.layers, self.points()).flatten(1)
        bounds = [seen_range(float(v.min()), float(v.max())) for v in values]
        low, high = torch.tensor(bounds, dtype=values.dtype).T
        return low, high

    def framed(self, low: Tensor, high: Tensor) -> Layers:
        """Layers whose values are 0 at `low` and 1 at `high`, both (n,)."""
        weight, bias = self.layers[-1]
        spread = (high - low)[:, None]
        return (*self.layers[:-1], (weight / spread[..., None], (bias - low[:, None]) / spread))


def read_inrs(zoos: Sequence[str | Path], images: Sequence[str | Path], part: str, most: int | None) -> InrPictures:
    """INRs of the pictures of one part ("train" or "test") of image sets.

    Args:
        images: the image set of each zoo, in order.
        most: of each zoo, the first rows.

    Raises:
        WrongUsage: not one image set for each zoo, or pictures of different kinds.
        Refused: a zoo without the columns that `nfn zoo fit-inrs` writes, or whose networks are no INRs of sines.
    """
    if len(zoos) != len(images):
        raise WrongUsage(
            f"{len(zoos)} zoos and {len(images)} image sets", where="--images", fix="one --images for each --zoo"
        )
    parts = [piece for zoo, where in zip(zoos, images, strict=True) for piece in _of_zoo(zoo, where, part, most)]
    shapes = {(tuple(w.shape[1:] for w, _ in p.layers), p.pictures.shape[1:]) for p in parts}
    if len(shapes) != 1:
        raise WrongUsage("networks or pictures of several shapes", where="--zoo", fix="one shape at a time")
    return _joined(parts)


def _of_zoo(where: str | Path, images: str | Path, part: str, most: int | None) -> list[InrPictures]:
    zoo = open_zoo(where)
    missing = {"split", "index", "low", "high", "height", "width", "centred", "psnr"} - set(zoo.columns)
    if missing:
        raise Refused(
            f"no column {sorted(missing)[0]}", where=str(where), fix="a zoo of nfn zoo fit-inrs", code="not-inrs"
        )
    keep = np.flatnonzero(np.asarray(zoo.columns["split"]) == part)[:most]
    if not len(keep):
        raise Refused(f"no INR of a {part} picture", where=str(where), code="too-few-rows")
    zoo = zoo.where(keep)
    channels = inr_channels(zoo.families[0].graph)
    data = read_images(str(images), grey=channels == 1)
    return [_of_family(zoo, number, _part(data, part)) for number in range(len(zoo.families))]


def _part(data: ImageData, part: str) -> Array:
    chosen = data.train if part == "train" else data.test
    return chosen.images


def _of_family(zoo: Zoo, number: int, images: Array) -> InrPictures:
    family = zoo.families[number]
    chain = sine_chain(family.graph)
    stacked = {name: torch.from_numpy(np.array(t, np.float32)) for name, t in family.tensors().items()}
    count = len(family)
    plain = Frame(torch.zeros(2), torch.ones(2), torch.zeros(count), torch.ones(count))

    def column(name: str) -> Tensor:
        return torch.from_numpy(zoo.numbers(name)[family.rows].astype(np.float32))

    index = torch.from_numpy(zoo.numbers("index")[family.rows].astype(np.int64))
    if int(index.max()) >= len(images):
        raise Refused("a row names a picture that the image set has not", where=zoo.folder, code="no-images")
    pictures = torch.from_numpy(images[index.numpy()].astype(np.float32) / 255).permute(0, 3, 1, 2)
    centred = torch.from_numpy(np.asarray(zoo.columns["centred"])[family.rows] == "true")
    layers = to_layers(chain, stacked, plain)
    return InrPictures(layers, centred, pictures, column("low"), column("high"), column("psnr"), index)


def _joined(parts: Sequence[InrPictures]) -> InrPictures:
    first = parts[0]
    layers = tuple(
        (torch.cat([p.layers[n][0] for p in parts]), torch.cat([p.layers[n][1] for p in parts]))
        for n in range(len(first.layers))
    )
    fields = ("centred", "pictures", "low", "high", "psnr", "index")
    return replace(first, layers=layers, **{name: torch.cat([getattr(p, name) for p in parts]) for name in fields})
