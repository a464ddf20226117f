"""networks/inr.py: networks as images: which graphs are INRs, and what they show. Torch; no file, no command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.graph_evaluator import evaluate_stacked, takes_input, unknown_in
from nfn_cli.networks.graph_evaluator.shapes import traced

Array = np.ndarray[Any, np.dtype[Any]]
ORDERS = ("row-column", "column-row")
_CHANNELS = (1, 3)
_ON_POINTS = frozenset(
    {"linear", "pointwise", "scalar", "clip"}
)  # kinds of ops that see the last axis alone, or nothing
_POINTS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where pixels lie.

    Attributes:
        low, high: of the first and last pixel, or of the image's edges where `centred`.
        order: which coordinate comes first. "row-column" is that of `get_mgrid` (Sitzmann et al. 2020) and of the data of
            Zhou et al. 2023; the code of Navon et al. 2023 makes "column-row".
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

    def as_text(self) -> str:
        """As `--coordinates` takes them."""
        return f"{self.low:g},{self.high:g},{self.order}" + (",centred" if self.centred else "")

    def _along(self, size: int) -> Array:
        if self.centred:
            return self.low + (self.high - self.low) * (np.arange(size) + 0.5) / size
        return np.linspace(self.low, self.high, size)


def over_points(graph: Graph) -> Graph:
    """A network that was written down for (batch, points, 2), as one for (points, 2); any other graph as it is.

    Only where no op looks beyond the last axis, so that how points are arranged does not matter.
    """
    shapes = [given.shape for given in graph.inputs]
    if len(shapes) != 1 or len(shapes[0]) < 3 or any(op.kind not in _ON_POINTS for op in graph.ops):
        return graph
    ops = [replace(op, attributes={n: a for n, a in op.attributes.items() if n != "shape"}) for op in graph.ops]
    return replace(graph, inputs=(replace(graph.inputs[0], shape=(None, shapes[0][-1])),), ops=tuple(ops))


def before_constants(graph: Graph) -> tuple[Graph, float, float]:
    """The network without constants at its end, and those: what it shows is `multiply` times its values, plus `add`."""
    ops, output, multiply, add = list(graph.ops), graph.outputs[0], 1.0, 0.0
    while ops and ops[-1].kind == "scalar" and ops[-1].output == output:
        factor, more = (float(ops[-1].attributes.get(name, usual)) for name, usual in (("multiply", 1), ("add", 0)))
        if factor == 0:
            break
        add, multiply, output = add + multiply * more, multiply * factor, ops.pop().inputs[0]
    return replace(graph, ops=tuple(ops), outputs=(output,)), multiply, add


def inr_channels(graph: Graph) -> int:
    """Channels of the image that a network shows: 1 or 3.

    Raises:
        Refused: it does not take points of the plane to grey values or colours (code "not-an-inr"), or is not known
            well enough to be run (code "unknown-function").
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise _not_an_inr(f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    shape = graph.inputs[0].shape
    if len(shape) != 2 or shape[-1] != 2:
        sizes = " × ".join("any" if size is None else str(size) for size in shape[1:])
        raise _not_an_inr(f"its input is {sizes or 'one number'}, not the two coordinates of a point")
    reason = takes_input(graph, (2,))
    if reason is not None:
        raise _not_an_inr(reason)
    answers = traced(graph, {graph.inputs[0].name: (2,)}, lambda op, shape: None)
    found = answers[0][1:] if answers else ()
    if len(found) != 1 or found[0] not in _CHANNELS:
        sizes = " × ".join(map(str, found)) or "one"
        raise _not_an_inr(f"a point gets {sizes} numbers, not a grey value or a colour")
    unknown = unknown_in(graph)
    if unknown:
        raise Refused(
            f"it cannot be run: {unknown[0]}",
            fix="name the activation, and ω: --activation sin --omega 30; where names leave the order open, --layers",
            code="unknown-function",
        )
    return int(found[0])


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


def seen_range(lowest: float, highest: float) -> tuple[float, float]:
    """Values of black and white, told from those that an INR takes.

    [0, 1] or [−1, 1] where they nearly fit, as nearly all fits are made in one of them; else the values themselves.
    """
    if lowest >= -0.35 and highest <= 1.35:
        return 0.0, 1.0
    if lowest >= -1.6 and highest <= 1.6:
        return -1.0, 1.0
    return lowest, highest if highest > lowest else lowest + 1.0


def _blocks(points: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(points), _POINTS_AT_ONCE):
        yield points[start : start + _POINTS_AT_ONCE]


def _not_an_inr(reason: str) -> Refused:
    return Refused(
        f"no INR of an image: {reason}",
        fix="an INR of an image takes two coordinates and gives one number or three",
        code="not-an-inr",
    )
