"""predictors/kinds/monomial.py: Monomial-NFN on chains of one shape. Knows networks/ and chains; no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared, chain_of_ones, prepare
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.predictors.chain_input import chains_of
from nfn_cli.predictors.takes import Takes

Array = np.ndarray[Any, np.dtype[Any]]


class MonomialEncoder:
    """Weights of a chain, in the balanced form where scales act.

    Args:
        takes: one chain form.
        group: a key of `networks.degrees.GROUPS`.
    """

    def __init__(self, takes: Takes, group: str, tensors: Mapping[str, Tensor] | None = None) -> None:
        self._takes = takes
        self._group = group
        (chain,) = takes.chains
        self._shape = ChainShape(chain.widths, tuple(int(np.prod(k, dtype=np.int64)) for k in chain.kernels))

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        self._takes.accepted_chain(graph, tensors)
        return graph, tensors

    def encode(self, graph: Graph, stacked: Mapping[str, Array]) -> Prepared:
        return prepare(self._config, raw_features(graph, stacked))

    def joined(self, parts: Sequence[Prepared]) -> Prepared:
        layers = range(self._shape.depth)
        features = WeightFeatures(
            tuple(torch.cat([part.features.weights[i] for part in parts]) for i in layers),
            tuple(torch.cat([part.features.biases[i] for part in parts]) for i in layers),
        )
        return Prepared(features, torch.cat([part.statistics for part in parts]))

    def statistics(self, prepared: Prepared) -> Tensor:
        return prepared.statistics

    def network(self, prepared: Prepared, architecture: Mapping[str, Any]) -> MonomialNfn:
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in architecture.items()}
        return MonomialNfn(self._shape, MonomialNfnConfig(group=self._group, **settings))

    def example(self) -> Prepared:
        return prepare(self._config, chain_of_ones(self._shape))

    def settings(self) -> dict[str, Any]:
        return {"group": self._group}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    @property
    def _config(self) -> MonomialNfnConfig:
        return MonomialNfnConfig(self._group)


def raw_features(graph: Graph, stacked: Mapping[str, Array]) -> WeightFeatures:
    """Chains of one graph -> a batch of weight features: kernel positions and flattened pixels become channels."""
    chains = chains_of(graph, stacked)
    width = chains.weights[0].shape[2]
    weights, biases = [], []
    for weight, bias in zip(chains.weights, chains.biases, strict=True):
        rows, outgoing, incoming = weight.shape[:3]
        if incoming % width:
            raise Refused(f"a layer takes {incoming} inputs, the one below gives {width}", code="shape-mismatch")
        folded = np.asarray(weight, np.float64).reshape(rows, outgoing, width, -1)
        weights.append(torch.from_numpy(np.ascontiguousarray(folded.transpose(0, 3, 1, 2))))
        biases.append(torch.from_numpy(np.array(bias, np.float64))[:, None])
        width = outgoing
    return WeightFeatures(tuple(weights), tuple(biases))
