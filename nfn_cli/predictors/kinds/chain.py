"""predictors/kinds/chain.py: models of chains of one shape: Monomial-NFN and its baselines. Knows networks/; no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared, chain_of_ones, prepare
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.stat_net import StatNet, StatNetConfig
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.networks.weight_statistics import weight_statistics
from nfn_cli.predictors.chain_input import chains_of
from nfn_cli.predictors.takes import Takes

Array = np.ndarray[Any, np.dtype[Any]]


class ChainEncoder(ABC):
    """Weights of chains of one shape.

    Args:
        takes: one chain form.
    """

    def __init__(self, takes: Takes) -> None:
        self._takes = takes
        (chain,) = takes.chains
        self._shape = ChainShape(chain.widths, tuple(int(np.prod(k, dtype=np.int64)) for k in chain.kernels))

    @abstractmethod
    def prepared(self, raw: WeightFeatures) -> Prepared:
        """What members read of raw chains, in float64."""

    @abstractmethod
    def network(self, prepared: Prepared, architecture: Mapping[str, Any]) -> nn.Module:
        """A fresh member."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Plain values for the card."""

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        self._takes.accepted_chain(graph, tensors)
        return graph, tensors

    def encode(self, graph: Graph, stacked: Mapping[str, Array]) -> Prepared:
        return self.prepared(raw_features(graph, stacked))

    def joined(self, parts: Sequence[Prepared]) -> Prepared:
        layers = range(self._shape.depth)
        features = WeightFeatures(
            tuple(torch.cat([part.features.weights[i] for part in parts]) for i in layers),
            tuple(torch.cat([part.features.biases[i] for part in parts]) for i in layers),
        )
        return Prepared(features, torch.cat([part.statistics for part in parts]))

    def statistics(self, prepared: Prepared) -> Tensor:
        return prepared.statistics

    def example(self) -> Prepared:
        return self.prepared(chain_of_ones(self._shape))

    def tensors(self) -> dict[str, Tensor]:
        return {}


class MonomialEncoder(ChainEncoder):
    """In the balanced form where scales act.

    Args:
        group: a key of `networks.degrees.GROUPS`.
    """

    def __init__(self, takes: Takes, group: str) -> None:
        super().__init__(takes)
        self._group = group

    def prepared(self, raw: WeightFeatures) -> Prepared:
        return prepare(MonomialNfnConfig(self._group), raw)

    def network(self, prepared: Prepared, architecture: Mapping[str, Any]) -> MonomialNfn:
        return MonomialNfn(self._shape, MonomialNfnConfig(group=self._group, **_settings(architecture)))

    def settings(self) -> dict[str, Any]:
        return {"group": self._group}


class RawEncoder(ChainEncoder):
    """Weights as they are, with their raw statistics: what the baselines read. Only permutations do not show."""

    def prepared(self, raw: WeightFeatures) -> Prepared:
        return Prepared(raw.map(lambda tensor: tensor.double()), weight_statistics(raw))

    def settings(self) -> dict[str, Any]:
        return {}


class StatNetEncoder(RawEncoder):
    """StatNet (Unterthiner et al. 2020)."""

    def network(self, prepared: Prepared, architecture: Mapping[str, Any]) -> StatNet:
        return StatNet(self._shape, StatNetConfig(**architecture))


class PermutationEncoder(RawEncoder):
    """NP and HNP (Zhou et al. 2023); which of them, says `group` of the architecture."""

    def network(self, prepared: Prepared, architecture: Mapping[str, Any]) -> PermutationNfn:
        return PermutationNfn(self._shape, PermutationNfnConfig(**_settings(architecture)))


def _settings(architecture: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in architecture.items()}


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
