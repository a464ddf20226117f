"""networks/weight_features.py: a batch of chains as features on weight space. Knows torch; no group, no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused


@dataclass(frozen=True, slots=True)
class ChainShape:
    """Shape signature of a chain of linear maps, convolutions first.

    Attributes:
        widths: units per axis, input first: layer i maps widths[i] to widths[i + 1].
        positions: kernel positions of each layer (9 for 3×3). A linear layer has 1; after a flatten it has the
            number of pixels, because its input axis is (channel outer, position inner).
    """

    widths: tuple[int, ...]
    positions: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.positions) + 1 or not self.positions:
            raise ValueError(f"{len(self.positions)} layers do not fit {len(self.widths)} widths")

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class WeightFeatures:
    """Features on the weight space of a batch of equal chains.

    Attributes:
        weights: layer i has shape (b, c_i, p, q): p its outgoing units, q its incoming ones; the channels of the raw
            weights are the kernel positions, so c_i may differ between layers.
        biases: layer i has shape (b, c, p).
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def map(self, function: Callable[[Tensor], Tensor]) -> WeightFeatures:
        """`function` applied to every tensor."""
        return WeightFeatures(tuple(map(function, self.weights)), tuple(map(function, self.biases)))

    @property
    def shape(self) -> ChainShape:
        """Widths from the tensors; positions are the channel counts, which is right for raw weights."""
        widths = (self.weights[0].shape[3], *(w.shape[2] for w in self.weights))
        return ChainShape(widths, tuple(w.shape[1] for w in self.weights))

    def __getitem__(self, rows: slice | Tensor) -> WeightFeatures:
        return self.map(lambda t: t[rows])

    def __len__(self) -> int:
        return int(self.weights[0].shape[0])


def shape_of_arrays(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None]) -> ChainShape:
    """Shape signature of one chain in torch layout: weights (out, in, *kernel), linear layers (out, in).

    Raises:
        Refused: a layer's input axis does not fit the layer below it, or a bias does not fit its weight.
    """
    if not weights:
        raise Refused("no layer in this chain", fix="a chain needs at least one weight", code="empty-chain")
    if len(weights) != len(biases):
        raise Refused(f"{len(weights)} weights but {len(biases)} biases", fix="give None for a missing bias")
    widths, positions = [int(weights[0].shape[1])], []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        incoming, flattened = divmod(int(weight.shape[1]), widths[-1])
        kernel = int(np.prod(weight.shape[2:], dtype=np.int64))
        if flattened or incoming < 1 or (incoming > 1 and weight.ndim > 2):
            raise Refused(
                f"layer {number} takes {weight.shape[1]} inputs, the layer below gives {widths[-1]}",
                fix="layers must follow one another",
                code="shape-mismatch",
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise Refused(f"bias of layer {number} has shape {bias.shape}, its weight {weight.shape}")
        positions.append(incoming * kernel)
        widths.append(int(weight.shape[0]))
    return ChainShape(tuple(widths), tuple(positions))


def features_from_arrays(
    weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None], dtype: torch.dtype = torch.float64
) -> WeightFeatures:
    """One chain in torch layout -> a batch of one. Convolution kernels and flattened pixels become channels."""
    shape = shape_of_arrays(weights, biases)
    folded, flat = [], []
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outgoing, incoming = shape.widths[i + 1], shape.widths[i]
        array = np.asarray(weight, dtype=np.float64).reshape(outgoing, incoming, shape.positions[i])
        folded.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0))).to(dtype)[None])
        value = np.zeros(outgoing) if bias is None else np.asarray(bias, dtype=np.float64)
        flat.append(torch.from_numpy(value.copy()).to(dtype)[None, None])
    return WeightFeatures(tuple(folded), tuple(flat))


def stacked(chains: Sequence[WeightFeatures]) -> WeightFeatures:
    """Batches of equal shape, one after another."""
    depth = range(len(chains[0].weights))
    return WeightFeatures(
        tuple(torch.cat([chain.weights[i] for chain in chains]) for i in depth),
        tuple(torch.cat([chain.biases[i] for chain in chains]) for i in depth),
    )
