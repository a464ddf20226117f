"""predictors/kinds/inr.py: what classifiers of INRs read of a network: its answers at probes, or its weights. No file.

Both take coordinates: where the image lies in the network's plane, if not in [−1, 1]² with the row first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator import evaluate_stacked
from nfn_cli.networks.inr import Coordinates, before_constants, inr_channels
from nfn_cli.networks.inr_monomial import SineMonomialNfn, SinePermutationNfn
from nfn_cli.networks.inr_phasors import PhasorNet
from nfn_cli.networks.inr_pixels import PixelNet, Pixels, smoother
from nfn_cli.networks.inr_sines import Sines, in_fundamental_interval, joined_sines
from nfn_cli.predictors.chain_input import chains_of
from nfn_cli.predictors.takes import mismatch

Array = np.ndarray[Any, np.dtype[Any]]
_PIECE = 256  # networks at once
_USUAL = Coordinates()


class InrEncoder(Protocol):
    """INRs -> what a member reads; blind to the group of each network, up to rounding."""

    def accept(self, graph: Graph) -> None:
        """Raises Refused where the member was not made for such networks; the reason says why."""

    def encode(self, graph: Graph, stacked: Mapping[str, Array], coordinates: Coordinates) -> Any:
        """Accepted networks of one graph, tensors (n, *shape) -> a batch of n, in float64."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """Batches one after another."""

    def network(self, outputs: int, architecture: Mapping[str, Any]) -> nn.Module:
        """A fresh member: `forward_prepared(batch)` -> (n, outputs)."""

    def settings(self) -> dict[str, Any]:
        """Plain values for the card, from which the encoder is made again."""

    def tensors(self) -> dict[str, Tensor]:
        """Tensors to keep beside the member."""


class ProbeReader:
    """Answers at points of the plane, which began as the two usual grids of pixels.

    Between the pixels that it was fitted to, an INR may show anything. Whether these were the middles of cells or went from
    edge to edge, a network does not say; so both grids are read, and the smoother reading counts.

    Args:
        channels: of the image; height, width: of the grids.
        offsets: (height · width, 2) learned, by which points lie off the grids; row first, None for 0.
    """

    def __init__(self, channels: int, height: int, width: int, offsets: Tensor | None = None) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.offsets = torch.zeros(height * width, 2) if offsets is None else offsets
        self._grids = [torch.from_numpy(Coordinates(centred=c).grid(height, width)) for c in (False, True)]

    def accept(self, graph: Graph) -> None:
        _check_channels(graph, self.channels)

    @torch.no_grad()
    def encode(self, graph: Graph, stacked: Mapping[str, Array], coordinates: Coordinates) -> Pixels:
        rows = len(next(iter(stacked.values())))
        parts = []
        for start in range(0, rows, _PIECE):
            piece = {name: _tensor(array[start : start + _PIECE]) for name, array in stacked.items()}
            parts.append(self.answers(graph, piece, self.offsets.double(), coordinates))
        return Pixels(torch.cat(parts))

    def answers(
        self, graph: Graph, stacked: Mapping[str, Tensor], offsets: Tensor, coordinates: Coordinates = _USUAL
    ) -> Tensor:
        """(n, channels, height, width), differentiable, in the dtype of the tensors and offsets."""
        matrix, shift = (part.to(offsets.dtype) for part in placed(coordinates))
        points = torch.cat([(grid.to(offsets.dtype) + offsets) @ matrix.T + shift for grid in self._grids])
        (values,) = evaluate_stacked(graph, stacked, {graph.inputs[0].name: points})
        shape = (len(values), len(self._grids), self.height, self.width, self.channels)
        edges, middles = values.reshape(shape).permute(1, 0, 4, 2, 3)
        return smoother(edges, middles)

    def joined(self, parts: Sequence[Pixels]) -> Pixels:
        return Pixels(torch.cat([part.values for part in parts]))

    def network(self, outputs: int, architecture: Mapping[str, Any]) -> nn.Module:
        settings = dict(architecture)
        blocks = tuple(tuple(block) for block in settings.pop("blocks"))
        return PixelNet(self.channels, outputs, blocks, **settings)

    def settings(self) -> dict[str, Any]:
        return {"channels": self.channels, "height": self.height, "width": self.width}

    def tensors(self) -> dict[str, Tensor]:
        return {"offsets": self.offsets.half()}


class SineReader:
    """Weights of plain chains of sines.

    Args:
        channels: of the image; layers: of sines.
        widths: all widths, where the member is made for these alone.
        reduced: whether biases are brought into the fundamental interval. A baseline reads them as they are.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        make: Callable[..., nn.Module],
        widths: Sequence[int] | None,
        reduced: bool = True,
    ) -> None:
        self.channels, self.layers, self._make, self._reduced = channels, layers, make, reduced
        self.widths = None if widths is None else tuple(widths)

    def accept(self, graph: Graph) -> None:
        _check_channels(graph, self.channels)
        if len(_sine_frequencies(graph)) != self.layers:
            raise mismatch(f"it has {len(_sine_frequencies(graph))} layers of sines, not {self.layers}")
        found = (
            2,
            *(
                graph.parameter_shapes[op.parameters["weight"]][op.attributes.get("out_axis", 0)]
                for op in _linear(graph)
            ),
        )
        if self.widths is not None and found != self.widths:
            raise mismatch(f"its widths are {_widths(found)}, not {_widths(self.widths)}")

    @torch.no_grad()
    def encode(self, graph: Graph, stacked: Mapping[str, Array], coordinates: Coordinates) -> Sines:
        graph, multiply, add = before_constants(graph)
        chains = chains_of(graph, stacked)
        waves = _sine_frequencies(graph)
        weights = [_tensor(weight) for weight in chains.weights]
        biases = [_tensor(bias) for bias in chains.biases]
        for layer, (omega, phase) in enumerate(waves):
            weights[layer] = weights[layer] * omega
            biases[layer] = biases[layer] * omega + phase
        weights[-1], biases[-1] = weights[-1] * multiply, biases[-1] * multiply + add
        sines = Sines(tuple(weights), tuple(biases)).read_at(*placed(coordinates))
        return in_fundamental_interval(sines) if self._reduced else sines

    def joined(self, parts: Sequence[Sines]) -> Sines:
        return joined_sines(parts)

    def network(self, outputs: int, architecture: Mapping[str, Any]) -> nn.Module:
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in architecture.items()}
        return self._make(self, outputs, settings)

    def settings(self) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "layers": self.layers,
            "widths": None if self.widths is None else list(self.widths),
        }

    def tensors(self) -> dict[str, Tensor]:
        return {}


def _phasor(reader: SineReader, outputs: int, settings: Mapping[str, Any]) -> nn.Module:
    return PhasorNet(reader.layers, reader.channels, outputs, **settings)


def _monomial(reader: SineReader, outputs: int, settings: Mapping[str, Any]) -> nn.Module:
    assert reader.widths is not None
    return SineMonomialNfn(reader.widths, outputs, **settings)


def _permutation(reader: SineReader, outputs: int, settings: Mapping[str, Any]) -> nn.Module:
    assert reader.widths is not None
    return SinePermutationNfn(reader.widths, outputs, **settings)


def _probe_reader(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> InrEncoder:
    return ProbeReader(**settings, offsets=tensors["offsets"])


def _sine_reader(make: Callable[..., nn.Module], reduced: bool = True) -> Callable[..., InrEncoder]:
    return lambda settings, tensors: SineReader(**settings, make=make, reduced=reduced)


# name on the card -> (settings of the card, kept tensors) -> encoder
INR_KINDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Tensor]], InrEncoder]] = MappingProxyType(
    {
        "probe": _probe_reader,
        "phasor": _sine_reader(_phasor),
        "monomial-nfn": _sine_reader(_monomial),
        "hnp": _sine_reader(_permutation, reduced=False),
    }
)


def placed(coordinates: Coordinates) -> tuple[Tensor, Tensor]:
    """(2, 2), (2,): the map from the plane of probes, [−1, 1]² with the row first, to the network's plane."""
    matrix = torch.eye(2, dtype=torch.float64) * ((coordinates.high - coordinates.low) / 2)
    shift = torch.full((2,), (coordinates.high + coordinates.low) / 2, dtype=torch.float64)
    return (matrix.flip(0) if coordinates.order == "column-row" else matrix), shift


def _check_channels(graph: Graph, channels: int) -> None:
    found = inr_channels(graph)
    if found != channels:
        words = {1: "grey values", 3: "colours"}
        raise mismatch(f"it shows {words[found]}, the training networks {words[channels]}")


_WAVES = {"sin": 0.0, "cos": float(np.pi / 2)}  # phase added to a sine


def _sine_frequencies(graph: Graph) -> tuple[tuple[float, float], ...]:
    """ω and added phase of each layer of sines.

    Raises:
        Refused: another function stands between layers.
    """
    ops = [op for op in graph.ops if op.kind == "pointwise" and op.attributes.get("function") != "identity"]
    others = sorted({str(op.attributes.get("function")) for op in ops} - set(_WAVES))
    if others or len(ops) != len(_linear(graph)) - 1:
        raise mismatch(f"its hidden layers are not all sines ({', '.join(others) or 'one has no activation'})")
    told = [np.asarray(op.attributes.get("omega", 1.0), np.float64).reshape(-1) for op in ops]
    if any(len(omega) != 1 for omega in told):
        raise Refused("ω differs between units of a layer", code="predictor-mismatch")
    return tuple((float(omega[0]), _WAVES[op.attributes["function"]]) for omega, op in zip(told, ops, strict=True))


def _linear(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.kind == "linear"]


def _widths(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
