"""train/recipes.py: how each kind of model is trained for test accuracy. Knows kinds of models and zoo data; no card.

The settings were chosen by cross-validation on the runs that are not test runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.networks.graph_evaluator import unknown_in
from nfn_cli.predictors.chain_input import ChainWeights, chain_of
from nfn_cli.predictors.kinds.chain import MonomialEncoder, PermutationEncoder, StatNetEncoder
from nfn_cli.predictors.kinds.kind import Encoder
from nfn_cli.predictors.kinds.probe import ProbeEncoder
from nfn_cli.predictors.kinds.unit_graph import UnitGraphEncoder, sizes_of
from nfn_cli.predictors.takes import Chain, Classifier, Takes, contradicts, in_torch_layout, output_width
from nfn_cli.train.harness import TrainConfig
from nfn_cli.train.probe_inputs import blended_probes
from nfn_cli.train.zoo_data import ZooData
from nfn_cli.train.zoo_part import Part

GROUP_OF: Mapping[str, str] = MappingProxyType({"relu": "positive_scale", "tanh": "sign"})
_LEAST_CHAIN_ROWS = 100  # a chain's own graph is kept for files of weights alone if so many networks stand behind it
_LEAST_CHAIN_SHARE = 0.98  # of the networks of its shape, which must not be run otherwise


@dataclass(frozen=True, slots=True)
class Sources:
    """What an encoder may be made from, beside the networks.

    Attributes:
        images: where probes come from; see `zoo.images.read_images`.
        probes: how many; seed: of everything random.
    """

    images: Path | None = None
    probes: int = 512
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """How one kind of model is trained.

    Attributes:
        encoder: from the networks and other sources.
        architecture, training: of each member.
        contrast, contrast_training: of the network of the in-distribution test.
        copies: untrained copies of each network that the contrast sees: so many shuffled, so many re-initialised.
        blind_to: the symmetries that cannot show in an answer, in words.
    """

    encoder: Callable[[ZooData, Sources], tuple[Encoder, Takes]]
    architecture: Mapping[str, Any]
    contrast: Mapping[str, Any]
    blind_to: str
    training: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=40, learning_rate=1e-3, patience=0))
    contrast_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=20, learning_rate=2e-3, weight_decay=0.1, patience=10)
    )
    copies: int = 4


def monomial_encoder(data: ZooData, sources: Sources) -> tuple[MonomialEncoder, Takes]:
    """Chains of one shape and activation.

    Raises:
        WrongUsage: the data hold several shapes or activations, or an activation without a group.
    """
    takes = _one_chain(data)
    activation = takes.chains[0].activation
    if activation not in GROUP_OF:
        raise WrongUsage(f"no group of scales or signs for {activation}", fix=f"known: {', '.join(GROUP_OF)}")
    return MonomialEncoder(takes, GROUP_OF[activation]), takes


def stat_net_encoder(data: ZooData, sources: Sources) -> tuple[StatNetEncoder, Takes]:
    """Chains of one shape and activation, their raw statistics."""
    takes = _one_chain(data)
    return StatNetEncoder(takes), takes


def permutation_encoder(data: ZooData, sources: Sources) -> tuple[PermutationEncoder, Takes]:
    """Chains of one shape and activation, as they are."""
    takes = _one_chain(data)
    return PermutationEncoder(takes), takes


def _one_chain(data: ZooData) -> Takes:
    """The chain form of all networks.

    Raises:
        WrongUsage: they differ.
    """
    chains = [_chain(part) for part in data.parts]
    known = [chain for chain in chains if chain is not None]
    if len(known) != len(chains) or len({str(chain) for chain in known}) != 1:
        raise WrongUsage(
            "this model is trained on chains of one shape and activation, these networks differ",
            fix="choose one with --activation, or another --model",
        )
    chain = known[0]
    return Takes(chains=(Chain(chain.activation, chain.widths, chain.kernels),))


def probe_encoder(data: ZooData, sources: Sources) -> tuple[ProbeEncoder, Takes]:
    """Probes blended from training images.

    Raises:
        WrongUsage: no images were named.
    """
    if sources.images is None:
        raise WrongUsage("probes are made from training images", fix="name them with --images")
    channels = int(_one({part.graph.inputs[0].shape[1] for part in data.parts}, "channels"))
    probes = blended_probes(sources.images, channels, sources.probes, sources.seed)
    classes = int(_one({output_width(part.graph) for part in data.parts}, "numbers of outputs"))
    classifier = Classifier(tuple(probes.inputs.shape[1:]), classes, _seen(data))
    takes = Takes(_common_chains(data), (classifier,))
    tensors = {"inputs": probes.inputs.half(), "roles": probes.roles}
    return ProbeEncoder(takes, tensors, torch.float32), takes


def unit_graph_encoder(data: ZooData, sources: Sources) -> tuple[UnitGraphEncoder, Takes]:
    """Any networks with the same numbers of input channels and outputs."""
    channels = _one({part.graph.inputs[0].shape[1] for part in data.parts}, "channels")
    classes = int(_one({output_width(part.graph) for part in data.parts}, "numbers of outputs"))
    takes = Takes(_common_chains(data), (Classifier((int(channels), None, None), classes, _seen(data)),))
    first = data.parts[0]
    return UnitGraphEncoder(takes, sizes_of(first.graph, first.tensors)), takes


_PERMUTATIONS = "permutations of hidden units, and to nothing else: scales and signs show"
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "monomial-nfn": Recipe(
            monomial_encoder,
            {"channels": (8, 8), "head_width": 40},
            {"channels": (4,), "head_width": 32, "dropout": 0.2},
            "the monomial group of the chain: permutations of hidden units with positive scales (relu) or signs (tanh)",
        ),
        "stat-net": Recipe(
            stat_net_encoder,
            {},
            {"head_width": 64},
            _PERMUTATIONS,
            TrainConfig(epochs=40, learning_rate=1e-3, patience=0),
        ),
        "np": Recipe(
            permutation_encoder,
            {"group": "neuron_permutation", "end_encoding": True},
            {"group": "permutation", "channels": (4,), "per_position": False, "head_width": 32},
            _PERMUTATIONS,
        ),
        "hnp": Recipe(
            permutation_encoder,
            {"group": "permutation"},
            {"group": "permutation", "channels": (4,), "per_position": False, "head_width": 32},
            _PERMUTATIONS,
        ),
        "probe": Recipe(
            probe_encoder,
            {"width": 128, "depth": 2, "dropout": 0.2},
            {"width": 64, "depth": 2, "dropout": 0.3},
            "everything that keeps a network's function: it sees nothing but answers",
            TrainConfig(epochs=60, learning_rate=2e-3, patience=0),
            copies=2,
        ),
        "unit-graph": Recipe(
            unit_graph_encoder,
            # messages between units gain about 0.01 in τ on one architecture, and cost minutes per epoch on hundreds
            {"channels": 0, "head_width": 128, "dropout": 0.3},
            {"channels": 0, "head_width": 128, "dropout": 0.3},
            "the symmetry group that the report gives for each network: permutations, scales, signs",
            TrainConfig(epochs=60, learning_rate=2e-3, weight_decay=0.05, patience=0),
            TrainConfig(epochs=40, learning_rate=2e-3, weight_decay=0.05, patience=20),
            copies=2,
        ),
    }
)


def _chain(part: Part) -> Chain | None:
    """The chain form of a part's networks; None where they are no plain chains."""
    try:
        weights = chain_of(part.graph, {name: array[0] for name, array in part.tensors.items()})
    except Refused:
        return None
    functions = set(weights.activations)
    if len(functions) != 1 or weights.pooling_between:
        return None
    kernels = tuple(weight.shape[2:] for weight in weights.weights)
    return Chain(functions.pop(), _widths(weights), kernels, in_torch_layout(part.graph))


def _widths(weights: ChainWeights) -> tuple[int, ...]:
    return (int(weights.weights[0].shape[1]), *(int(w.shape[0]) for w in weights.weights))


def _common_chains(data: ZooData) -> tuple[Chain, ...]:
    """Chains that are run in one way: where networks of one shape differ in strides, weights alone do not tell which."""
    ways: dict[str, list[tuple[Chain, int]]] = {}
    for part in data.parts:
        chain = _chain(part)
        if chain is None or chain.graph is None or unknown_in(chain.graph):
            continue
        alike = ways.setdefault(str(chain), [])
        place = next((i for i, (known, _) in enumerate(alike) if contradicts(known, chain.graph) is None), None)
        if place is None:
            alike.append((chain, len(part)))
        else:
            alike[place] = (alike[place][0], alike[place][1] + len(part))
    largest = [(max(alike, key=lambda way: way[1]), sum(rows for _, rows in alike)) for alike in ways.values()]
    return tuple(
        chain for (chain, rows), total in largest if rows >= _LEAST_CHAIN_ROWS and rows >= _LEAST_CHAIN_SHARE * total
    )


def _seen(data: ZooData) -> str:
    """Kinds of networks in the data, activations behind their architecture."""
    functions: dict[str, list[str]] = {}
    for kind in sorted(set(data.kind.tolist())):
        architecture, _, function = kind.partition(", ")
        functions.setdefault(architecture, []).append(function)
    return "trained on " + "; ".join(f"{name}: {', '.join(of)}" for name, of in functions.items())


def _one(values: set[Any], what: str) -> Any:
    if len(values) != 1 or None in values:
        raise WrongUsage(f"the networks differ in {what}: {', '.join(map(str, sorted(values, key=str)))}")
    return np.asarray(list(values))[0]
