"""predictors/kinds/kind.py: what every kind of model offers to the rest of the tool. Knows graphs and torch; no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.graph.model import Graph

Array = np.ndarray[Any, np.dtype[Any]]
P = TypeVar("P", bound="Prepared")


class Prepared(Protocol):
    """What the learned part reads of a batch of networks; exactly blind to their group, up to rounding."""

    def __len__(self) -> int:
        """Number of networks."""

    def __getitem__(self: P, rows: slice | Tensor) -> P:
        """Some of them, in this order."""

    def to(self: P, dtype: torch.dtype) -> P:
        """The same in another dtype."""


class Encoder(Protocol):
    """The part of a predictor that is not learned from scores: networks -> what its members read.

    Whether a network is one that the predictor takes is asked before (`accept`), once for all networks of a graph.
    """

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        """The graph and tensors to encode for a network.

        Raises:
            Refused: the predictor was not trained for such networks; the reason says why.
        """

    def encode(self, graph: Graph, stacked: Mapping[str, Array]) -> Prepared:
        """Accepted networks of one graph, tensors (n, *shape) -> a batch of n, in float64."""

    def joined(self, parts: Sequence[Any]) -> Prepared:
        """Batches one after another."""

    def statistics(self, prepared: Any) -> Tensor:
        """(n, s) numbers whose distribution tells networks like the training ones from others."""

    def network(self, prepared: Any, architecture: Mapping[str, Any]) -> nn.Module:
        """A fresh member: `forward_prepared(prepared)` -> (n, 1), `fit_normalization(prepared)`.

        Args:
            prepared: any batch of this encoder, from which sizes are taken.
        """

    def example(self) -> Prepared:
        """A batch with the sizes of every other, to build members for stored weights."""

    def settings(self) -> dict[str, Any]:
        """Plain values for the card, from which the encoder is made again."""

    def tensors(self) -> dict[str, Tensor]:
        """Tensors to keep beside the members."""
