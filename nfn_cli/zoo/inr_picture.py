"""zoo/inr_picture.py: one INR as a picture of bytes. Knows networks/inr.py and what files say; no file, no command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.networks.inr import Coordinates, inr_channels, over_points, render, seen_range
from nfn_cli.zoo.inr_stated import stated

Array = np.ndarray[Any, np.dtype[Any]]
_SIZE = (128, 128)


@dataclass(frozen=True)
class Rendered:
    """Attributes: picture: (height, width, 1 or 3) uint8; lowest, highest: values that the INR takes there; low, high: those
    that became 0 and 255."""

    picture: Array
    lowest: float
    highest: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        height, width, channels = self.picture.shape
        return {
            "height": height,
            "width": width,
            "channels": channels,
            "lowest": self.lowest,
            "highest": self.highest,
            "range": [self.low, self.high],
        }


def only_inr(networks: tuple[Network, ...]) -> Network:
    """The one network of a file, over points.

    Raises:
        Refused: there are several (code "several-networks").
    """
    if len(networks) != 1:
        raise Refused(
            f"the file holds {len(networks)} networks",
            fix="name the weights of one with --layers",
            code="several-networks",
        )
    return replace(networks[0], graph=over_points(networks[0].graph))


def alone(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, Tensor]:
    """Tensors of one network as a stack of one: name -> (1, *shape) float64, a copy."""
    return {name: torch.from_numpy(checkpoint.tensors[name].astype(np.float64)[None]) for name in names}


def rendered(
    checkpoint: Checkpoint,
    networks: tuple[Network, ...],
    *,
    size: tuple[int, int] | None = None,
    coordinates: Coordinates | None = None,
    pixels: tuple[float, float] | None = None,
) -> Rendered:
    """What an INR shows.

    Args:
        size: (height, width); None as the file or the zoo says, else 128 × 128.
        coordinates, pixels: where pixels lie, and values of black and white; None as the file or the zoo says, else the usual ones,
            or those that the values fit.

    Raises:
        Refused: no INR, or one with weights or values that are not finite.
    """
    network = only_inr(networks)
    inr_channels(network.graph)
    names = network.graph.parameter_shapes
    check_finite(checkpoint, names)
    stacked = alone(checkpoint, names)
    said = stated(checkpoint)
    height, width = size or said.size or _SIZE
    where = coordinates or said.coordinates or Coordinates()
    values = render(network.graph, stacked, height, width, where)[0].numpy()
    if not np.isfinite(values).all():
        raise Refused("its values are not finite", code="not-finite")
    lowest, highest = float(values.min()), float(values.max())
    low, high = pixels or said.pixels or seen_range(lowest, highest)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return Rendered(np.rint(255 * scaled).astype(np.uint8), lowest, highest, low, high)
