"""predictors/kinds/unit_graph.py: message passing on the graph of units, for any network. Knows networks/; no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.graph_evaluator import unknown_in
from nfn_cli.networks.unit_graph.encoding import UnitGraphBatch, encode, joined
from nfn_cli.networks.unit_graph.model import StatisticSizes, UnitGraphConfig, UnitGraphModel, statistic_sizes
from nfn_cli.predictors.takes import Takes, mismatch

Array = np.ndarray[Any, np.dtype[Any]]


class UnitGraphEncoder:
    """Balanced weights and invariants of any network; nothing of it is run.

    Args:
        takes: one classifier form, and chain forms with graphs for files that do not tell all that a graph tells.
        sizes: fields of `StatisticSizes`.
    """

    def __init__(self, takes: Takes, sizes: Mapping[str, int], tensors: Mapping[str, Tensor] | None = None) -> None:
        self._takes = takes
        self._sizes = StatisticSizes(**sizes)

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        (classifier,) = self._takes.classifiers
        reason = classifier.mismatch(graph)
        if reason is not None:
            raise mismatch(reason)
        if not unknown_in(graph):
            return graph, tensors
        try:  # strides are among what is read
            return self._takes.completed(graph, tensors)
        except Refused:
            return graph, tensors

    def encode(self, graph: Graph, stacked: Mapping[str, Array]) -> UnitGraphBatch:
        return encode(graph, {name: np.asarray(array, np.float64) for name, array in stacked.items()})

    def joined(self, parts: Sequence[UnitGraphBatch]) -> UnitGraphBatch:
        return joined(parts)

    def statistics(self, prepared: UnitGraphBatch) -> Tensor:
        rows: list[Tensor] = [torch.empty(0)] * len(prepared)
        for group, places in zip(prepared.groups, prepared.rows, strict=True):
            layers = group.layer_statistics
            values = torch.cat([group.network_statistics, layers.mean(1), layers[:, 0], layers[:, -1]], 1)
            for place, row in zip(places.tolist(), values, strict=True):
                rows[place] = row
        return torch.stack(rows)

    def network(self, prepared: UnitGraphBatch, architecture: Mapping[str, Any]) -> UnitGraphModel:
        return UnitGraphModel(self._sizes, UnitGraphConfig(**architecture))

    def example(self) -> UnitGraphBatch:
        return UnitGraphBatch((), ())

    def settings(self) -> dict[str, Any]:
        return {"sizes": asdict(self._sizes)}

    def tensors(self) -> dict[str, Tensor]:
        return {}


def sizes_of(graph: Graph, stacked: Mapping[str, Array]) -> dict[str, int]:
    """Fields of `StatisticSizes`, counted on one network."""
    one = {name: np.asarray(array[:1], np.float64) for name, array in stacked.items()}
    return asdict(statistic_sizes(encode(graph, one)))
