"""zoo/sine_network.py: fully connected networks of sines (SIREN, Sitzmann et al. 2020): shapes, graph, initial weights. No torch.

Layer l computes sin(ω_l (W x + b)), the last one W x + b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph, GraphInput, Op

Array = np.ndarray[Any, np.dtype[Any]]

INITIALIZATIONS = ("siren", "siren-no-bias", "normal", "wide", "narrow")
_FIRST_LAYER = {"wide": 2.0, "narrow": 0.5}  # factors on the frequencies that the first layer starts with


@dataclass(frozen=True)
class SineNetwork:
    """One shape of network.

    Attributes:
        widths: inputs, hidden widths, outputs.
        omegas: ω of each hidden layer.
    """

    widths: tuple[int, ...]
    omegas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.omegas) != len(self.widths) - 2 or len(self.widths) < 3 or min(self.widths) < 1:
            raise ValueError("one ω for each hidden layer, at least one hidden layer")

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order in which parameters are kept flat."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (incoming, outgoing) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            shapes[f"layers.{layer}.weight"] = (outgoing, incoming)
            shapes[f"layers.{layer}.bias"] = (outgoing,)
        return shapes

    @property
    def parameters(self) -> int:
        """Numbers in one network."""
        return sum(int(np.prod(shape)) for shape in self.tensor_shapes().values())

    def tensors(self, flat: Array) -> dict[str, Array]:
        """(n, parameters) -> name -> (n, *shape)."""
        found, start = {}, 0
        for name, shape in self.tensor_shapes().items():
            size = int(np.prod(shape))
            found[name] = flat[:, start : start + size].reshape(-1, *shape)
            start += size
        return found

    def graph(self) -> Graph:
        """Coordinates (N, inputs) -> values (N, outputs)."""
        ops, value = [], "coordinates"
        for layer in range(len(self.widths) - 1):
            roles = {role: f"layers.{layer}.{role}" for role in ("weight", "bias")}
            ops.append(Op("linear", (value,), f"layers.{layer}", roles, {"out_axis": 0, "in_axis": 1}))
            value = f"layers.{layer}"
            if layer < len(self.omegas):
                ops.append(Op("pointwise", (value,), f"sines.{layer}", {}, self._sine(layer)))
                value = f"sines.{layer}"
        return Graph((GraphInput("coordinates", (None, self.widths[0])),), tuple(ops), (value,), self.tensor_shapes())

    def _sine(self, layer: int) -> dict[str, Any]:
        return {"function": "sin", "omega": self.omegas[layer]}

    def initial(self, styles: Array, generator: np.random.Generator) -> Array:
        """(n, parameters) float32 before the first step.

        Args:
            styles: (n,) names of INITIALIZATIONS: Sitzmann et al.'s uniform one with the biases of PyTorch's linear
                layers or without, with normal numbers of the same spread, with higher or lower first frequencies.
        """
        parts: list[Array] = []
        for name, shape in self.tensor_shapes().items():
            layer, incoming = int(name.split(".")[1]), self.widths[int(name.split(".")[1])]
            bound = 1 / np.sqrt(incoming)
            if len(shape) == 2:
                bound = 1 / incoming if layer == 0 else np.sqrt(6 / incoming) / self.omegas[layer - 1]
            size = int(np.prod(shape))
            uniform = generator.uniform(-bound, bound, (len(styles), size))
            normal = generator.standard_normal((len(styles), size)) * (bound / np.sqrt(3))
            drawn = np.where(styles[:, None] == "normal", normal, uniform)
            if len(shape) == 1:
                drawn = np.where(styles[:, None] == "siren-no-bias", 0.0, drawn)
            elif layer == 0:
                drawn = drawn * np.array([_FIRST_LAYER.get(style, 1.0) for style in styles])[:, None]
            parts.append(drawn)
        flat: Array = np.concatenate(parts, axis=1).astype(np.float32)
        return flat
