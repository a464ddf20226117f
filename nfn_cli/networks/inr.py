"""networks/inr.py: networks as images: which graphs are INRs, and what they show. Torch; no file, no command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.graph_evaluator import evaluate_stacked, takes_input

Array = np.ndarray[Any, np.dtype[Any]]
ORDERS = ("row-column", "column-row")
_CHANNELS = (1, 3)
_POINTS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where pixels lie.

    Attributes:
        low, high: of the first and last pixel, or of the image's edges where `centred`.
        order: which coordinate comes first. "row-column" is that of `get_mgrid` (Sitzmann et al. 2020) and of the data of
            Zhou et al. 2023 and Navon et al. 2023.
        centred: whether pixels lie in the middle of cells of equal size, not on a grid that ends at the edges.
    """

    low: float = -1.0
    high: float = 1.0
    order: str = ORDERS[0]
    centred: bool = False

    def grid(self, height: int, width: int) -> Array:
        """(height · width, 2) float64, pixels row by row."""
        rows, columns = np.meshgrid(self._along(height), self._along(width), indexing="ij")
        pair = (rows, columns) if self.order == ORDERS[0] else (columns, rows)
        return np.stack([each.reshape(-1) for each in pair], axis=-1)

    def _along(self, size: int) -> Array:
        if self.centred:
            return self.low + (self.high - self.low) * (np.arange(size) + 0.5) / size
        return np.linspace(self.low, self.high, size)


def inr_channels(graph: Graph) -> int:
    """Channels of the image that a network shows: 1 or 3.

    Raises:
        Refused: it does not take points of the plane to grey values or colours (code "not-an-inr").
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise _not_an_inr(f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    shape = graph.inputs[0].shape
    if len(shape) != 2 or shape[-1] != 2:
        sizes = " × ".join("any" if size is None else str(size) for size in shape[1:])
        raise _not_an_inr(f"its input is {sizes or 'one number'}, not the two coordinates of a point")
    if not takes_input(graph, (2,)):
        raise _not_an_inr("it cannot be run on two coordinates")
    probe = torch.zeros(2, 2, dtype=torch.float64)
    ones = {name: torch.zeros(1, *size, dtype=torch.float64) for name, size in graph.parameter_shapes.items()}
    found = evaluate_stacked(graph, ones, {graph.inputs[0].name: probe})[0]
    if found.ndim != 3 or found.shape[-1] not in _CHANNELS:
        raise _not_an_inr(f"a point gets {' × '.join(map(str, found.shape[2:]))} numbers, not a grey value or a colour")
    return int(found.shape[-1])


def render(
    graph: Graph, stacked: Mapping[str, Tensor], height: int, width: int, coordinates: Coordinates | None = None
) -> Tensor:
    """What n networks of one graph show.

    Args:
        graph: one that `inr_channels` accepts.
        stacked: name -> (n, *shape), floating.

    Returns:
        (n, height, width, channels), in float64: phases of many turns lose their digits in less.
    """
    points = torch.from_numpy((coordinates or Coordinates()).grid(height, width))
    tensors = {name: tensor.double() for name, tensor in stacked.items()}
    name = graph.inputs[0].name
    with torch.no_grad():
        parts = [evaluate_stacked(graph, tensors, {name: some})[0] for some in _blocks(points)]
    whole = torch.cat(parts, dim=1)
    return whole.reshape(len(whole), height, width, -1)


def _blocks(points: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(points), _POINTS_AT_ONCE):
        yield points[start : start + _POINTS_AT_ONCE]


def _not_an_inr(reason: str) -> Refused:
    return Refused(
        f"no INR of an image: {reason}",
        fix="an INR of an image takes two coordinates and gives one number or three",
        code="not-an-inr",
    )
