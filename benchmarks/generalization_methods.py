"""benchmarks/generalization_methods.py: the methods compared. A method is one entry of METHODS, a function
(networks, scores, setting) -> Fitted; nothing else needs to know of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from generalization_data import Array, Rows
from generalization_graph_methods import GRAPH_METHODS
from generalization_setting import Fitted, Method, Setting
from torch import nn

from nfn_cli.networks import monomial_nfn, permutation_nfn, stat_net
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared, parameter_count
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.stat_net import StatNet, StatNetConfig
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.networks.weight_statistics import weight_statistics
from nfn_cli.train.boosting import BoostingConfig, fit_boosting

GROUP_OF = {"relu": "positive_scale", "tanh": "sign"}
# Networks read at a time: features of one part fit the processor's cache.
_PART = 128


@dataclass(frozen=True)
class Recipe:
    """How networks are trained, the same for all of them: AdamW on the cross-entropy, cosine learning rate.

    No validation rows are held back and no epoch is chosen afterwards: everyone sees every training run.
    """

    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


def trained(
    model: Any,
    prepared: Prepared,
    target: Array,
    setting: Setting,
    recipe: Recipe | None = None,
    after: Callable[[float], bool] | None = None,
) -> None:
    """Fits a model with `fit_normalization` and `forward_prepared` in place; `after(seconds)` is called behind each epoch
    with the processor time spent on training so far, and ends it by returning True.
    """
    recipe = recipe or Recipe()
    recipe = replace(recipe, epochs=2) if setting.quick else recipe
    model.fit_normalization(prepared)
    scores = torch.from_numpy(target).float()
    nn.init.zeros_(model.head[-1].weight)
    nn.init.constant_(model.head[-1].bias, float(torch.logit(scores.mean())))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = max(len(scores) // recipe.batch_size, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * batches + 1, pct_start=0.1
    )
    seconds = 0.0
    for _ in range(recipe.epochs):
        start = time.process_time()
        model.train()
        order = torch.randperm(len(scores))
        for rows in order[: batches * recipe.batch_size].split(recipe.batch_size):
            logits = model.forward_prepared(prepared[rows])[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, scores[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        seconds += time.process_time() - start
        if after is not None and after(seconds):
            break
    model.eval()


def learned(
    build: Callable[[ChainShape, Any], Any],
    prepare: Callable[[Any, WeightFeatures], Prepared],
    config: Callable[[str], Any],
    recipe: Recipe | None = None,
) -> Method:
    """A network on weight features, from its configuration for an activation."""

    def fit(train: Rows, target: Array, setting: Setting) -> Fitted:
        torch.manual_seed(setting.seed)
        architecture = config(train.activation)
        model = build(train.features.shape, architecture)
        trained(model, prepare(architecture, train.features).to(torch.float32), target, setting, recipe)

        @torch.no_grad()
        def guess(rows: Rows) -> Array:
            parts = [rows.features[slice(i, i + _PART)] for i in range(0, len(rows), _PART)]
            logits = [model.forward_prepared(prepare(architecture, part).to(torch.float32))[:, 0] for part in parts]
            return np.asarray(torch.sigmoid(torch.cat(logits).double()).numpy())

        return Fitted(guess, parameter_count(model))

    return fit


def boosted(statistics: Callable[[Rows], Array]) -> Method:
    """Gradient boosting on statistics of the weights."""

    def fit(train: Rows, target: Array, setting: Setting) -> Fitted:
        config = BoostingConfig(iterations=20) if setting.quick else BoostingConfig()
        model = fit_boosting(statistics(train), target, config, setting.seed)
        return Fitted(lambda rows: model(statistics(rows)), None)

    return fit


def invariant_statistics(rows: Rows) -> Array:
    """Statistics of the balanced form, or of absolute values where signs act (DESIGN 2.4)."""
    config = MonomialNfnConfig(GROUP_OF[rows.activation], channels=())
    return np.asarray(monomial_nfn.prepare(config, rows.features).statistics.numpy())


def paper_monomial(activation: str) -> MonomialNfnConfig:
    """Monomial-NFN in the size of arXiv 2409.11697: channels per kernel position, degrees divided out, no statistics."""
    return MonomialNfnConfig(
        GROUP_OF[activation],
        balanced=False,
        channels=(16, 16, 5),
        statistics=False,
        head_width=200,
        dropout=0.0,
        per_position=True,
    )


def balanced_monomial(activation: str) -> MonomialNfnConfig:
    """One small Monomial-NFN on the balanced form (signs: on the weights as they are) with orbit statistics."""
    return MonomialNfnConfig(GROUP_OF[activation], channels=(8, 8), head_width=40)


METHODS: dict[str, Method] = {
    "StatNet": learned(StatNet, stat_net.prepare, lambda _: StatNetConfig()),
    "NP": learned(
        PermutationNfn,
        permutation_nfn.prepare,
        lambda _: PermutationNfnConfig("neuron_permutation", end_encoding=True),
    ),
    "HNP": learned(PermutationNfn, permutation_nfn.prepare, lambda _: PermutationNfnConfig("permutation")),
    "raw statistics, boosting": boosted(lambda rows: np.asarray(weight_statistics(rows.features).numpy())),
    "invariant statistics, boosting": boosted(invariant_statistics),
    "Monomial-NFN, paper's form": learned(MonomialNfn, monomial_nfn.prepare, paper_monomial),
    "Monomial-NFN, balanced": learned(MonomialNfn, monomial_nfn.prepare, balanced_monomial),
    **GRAPH_METHODS,
}
