"""benchmarks/generalization_graph_methods.py: the methods that read graphs, not chains: unit graph, probes, shipped ones.

They are trained as `nfn train generalization` trains one member: same encoder, recipe and harness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from generalization_data import Array, Rows
from generalization_setting import Fitted, Method, Setting

from nfn_cli.errors import WrongUsage
from nfn_cli.predictors import load_predictor
from nfn_cli.predictors.kinds.kind import Encoder
from nfn_cli.predictors.kinds.probe import ProbeEncoder
from nfn_cli.predictors.kinds.unit_graph import UnitGraphEncoder, sizes_of
from nfn_cli.predictors.takes import Classifier, Takes
from nfn_cli.train.harness import Examples, fit
from nfn_cli.train.probe_inputs import blended_probes
from nfn_cli.train.recipes import RECIPES

_CLASSES = 10


def encoded(model: str, architecture: dict[str, Any], make: Callable[[Rows, Setting], Encoder]) -> Method:
    """One member of a kind of predictor."""

    def method(train: Rows, target: Array, setting: Setting) -> Fitted:
        encoder = make(train, setting)
        prepared = encoder.encode(train.graph, train.tensors).to(torch.float32)
        config = replace(RECIPES[model].training, seed=setting.seed)
        config = replace(config, epochs=2) if setting.quick else config
        network: Any = fit(
            lambda: encoder.network(prepared, architecture),
            config,
            Examples(prepared, torch.from_numpy(target).float()),
        )

        @torch.no_grad()
        def guess(rows: Rows) -> Array:
            batch = encoder.encode(rows.graph, rows.tensors).to(torch.float32)
            return np.asarray(torch.sigmoid(network.forward_prepared(batch)[:, 0].double()).numpy())

        learned = sum(p.numel() for p in network.parameters())
        return Fitted(guess, learned + sum(t.numel() for t in encoder.tensors().values() if t.is_floating_point()))

    return method


def unit_graph(train: Rows, setting: Setting) -> Encoder:
    takes = Takes(classifiers=(Classifier((1, None, None), _CLASSES, "these networks"),))
    return UnitGraphEncoder(takes, sizes_of(train.graph, train.tensors))


def probes(count: int) -> Callable[[Rows, Setting], Encoder]:
    def make(train: Rows, setting: Setting) -> Encoder:
        if setting.images is None:
            raise WrongUsage("probes are made from training images", fix="name them with --images")
        shown = blended_probes(setting.images, 1, count, setting.seed)
        takes = Takes(classifiers=(Classifier(tuple(shown.inputs.shape[1:]), _CLASSES, "these networks"),))
        return ProbeEncoder(takes, {"inputs": shown.inputs, "roles": shown.roles}, torch.float32)

    return make


def shipped(name: str) -> Method:
    """A predictor that comes with the package, as it is: nothing is trained, the seed changes only the moves.

    Args:
        name: with {} for the activation.
    """

    def method(train: Rows, target: Array, setting: Setting) -> Fitted:
        predictor = load_predictor(name.format(train.activation))

        def guess(rows: Rows) -> Array:
            graph, tensors = predictor.accept(rows.graph, {key: array[0] for key, array in rows.tensors.items()})
            answers = predictor.predict_stacked(graph, {key: rows.tensors[key] for key in tensors})
            return np.array([answer.predicted_test_accuracy for answer in answers])

        return Fitted(guess, predictor.card.parameters)

    return method


GRAPH_METHODS: dict[str, Method] = {
    "unit graph, statistics": encoded("unit-graph", {"channels": 0, "dropout": 0.3}, unit_graph),
    "unit graph, messages": encoded("unit-graph", {"channels": 12, "edge_functions": 4}, unit_graph),
    "256 probes": encoded("probe", dict(RECIPES["probe"].architecture), probes(256)),
    "512 probes": encoded("probe", dict(RECIPES["probe"].architecture), probes(512)),
    "shipped, Monomial-NFN": shipped("generalization-cifar10gs-{}"),
    "shipped, unit graph": shipped("generalization-cifar10gs-any"),
    "shipped, probes": shipped("generalization-cifar10gs"),
}
