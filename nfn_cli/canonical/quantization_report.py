"""canonical/quantization_report.py: what integer weights cost a network, in each form that keeps its function. No file, no torch.

Weights of linear layers and convolutions are rounded, each with one step; biases and norms are not, as in integer inference,
where they are wider or folded. Forms differ in scale only: units keep the file's order, so channels can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.canonicalize import CanonicalOptions, way_to_form
from nfn_cli.canonical.quantization import Array, WeightQuality, channels_first, quality, quantized
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Network

FORMS = ("as-is", "balanced", "equalize", "equalize-folded")
_OPTIONS = {
    "balanced": CanonicalOptions("balanced", sign=False, order=False),
    "equalize": CanonicalOptions("equalize", sign=False, order=False),
    "equalize-folded": CanonicalOptions("equalize", sign=False, order=False, fold_batch_norm=True),
}
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Form:
    """One form of the checkpoint.

    Attributes:
        name: one of `FORMS`.
        tensors: computed when they are read.
        notes: what it could not do.
    """

    name: str
    tensors: Tensors
    notes: tuple[str, ...]


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight that integer inference rounds: its name, and how to see its output channels."""

    tensor: str
    out_axis: int
    groups: int

    def channels(self, array: Array) -> Array:
        return channels_first(array, self.out_axis, self.groups)


@dataclass(frozen=True)
class NetworkQuality:
    """One network of the checkpoint.

    Attributes:
        name: as in `Network`.
        weights: each weight with its quality in every form, in the order of the network.
    """

    name: str
    weights: tuple[tuple[QuantizedWeight, Mapping[str, WeightQuality]], ...]


def check_bits(bits: int) -> None:
    """Raises WrongUsage outside 2 … 16."""
    if not 2 <= bits <= 16:
        raise WrongUsage(f"{bits} bits", where="--bits", fix="from 2 to 16")


def forms_of(checkpoint: Checkpoint, networks: Sequence[Network]) -> tuple[Form, ...]:
    """The checkpoint in every form.

    Raises:
        Refused: weights are not finite, or shapes disagree.
    """
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    return (Form("as-is", checkpoint.tensors, ()), *(_form(name, checkpoint, networks) for name in FORMS[1:]))


def _form(name: str, checkpoint: Checkpoint, networks: Sequence[Network]) -> Form:
    way = way_to_form(checkpoint, networks, _OPTIONS[name])
    return Form(name, way.result().tensors, way.notes)


def weights_of(network: Network, aliases: Mapping[str, str]) -> tuple[QuantizedWeight, ...]:
    """Weights of linear layers and convolutions, each once."""
    found: dict[str, QuantizedWeight] = {}
    for op in network.graph.ops:
        if op.kind in ("linear", "conv") and "weight" in op.parameters and len(op.inputs) == 1:
            name = op.parameters["weight"]
            groups = int(op.attributes.get("groups", 1)) if op.attributes.get("transposed", False) else 1
            found.setdefault(aliases.get(name, name), QuantizedWeight(name, int(op.attributes["out_axis"]), groups))
    return tuple(found.values())


def qualities(
    forms: Sequence[Form], networks: Sequence[Network], aliases: Mapping[str, str], bits: int
) -> tuple[NetworkQuality, ...]:
    """Every weight of every network, rounded in every form."""
    out = []
    for network in networks:
        weights = []
        for weight in weights_of(network, aliases):
            by_form = {
                form.name: quality(weight.channels(np.asarray(form.tensors[weight.tensor])), bits) for form in forms
            }
            weights.append((weight, by_form))
        out.append(NetworkQuality(network.name, tuple(weights)))
    return tuple(out)


class QuantizedTensors(Mapping[str, Array]):
    """A form's tensors with weights rounded, each with one step; computed when they are read."""

    def __init__(self, form: Form, weights: Sequence[QuantizedWeight], aliases: Mapping[str, str], bits: int) -> None:
        self._tensors, self._aliases, self._bits = form.tensors, aliases, bits
        self._rounded = {aliases.get(weight.tensor, weight.tensor) for weight in weights}

    def __getitem__(self, name: str) -> Array:
        array = np.asarray(self._tensors[name])
        return quantized(array, self._bits) if self._aliases.get(name, name) in self._rounded else array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
