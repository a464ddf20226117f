"""predictors/: trained predictors: cards, loading, interval, in-distribution test. Knows networks/, graph/; no command.

torch is imported when a predictor is loaded or asked; cards, chains and refusals do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfn_cli.predictors.card import Card
from nfn_cli.predictors.chain_input import ChainWeights, chain_of
from nfn_cli.predictors.generalization import predict_generalization, predict_many
from nfn_cli.predictors.shipped import shipped_inr_classifiers, shipped_predictors

if TYPE_CHECKING:
    from nfn_cli.predictors.predictor import Prediction, Predictor

__all__ = [
    "Card",
    "ChainWeights",
    "Prediction",
    "Predictor",
    "chain_of",
    "load_predictor",
    "predict_generalization",
    "predict_many",
    "shipped_inr_classifiers",
    "shipped_predictors",
]


def load_predictor(name_or_folder: str) -> Predictor:
    """See `predictor.load_predictor`."""
    from nfn_cli.predictors.predictor import load_predictor as load

    return load(name_or_folder)


def __getattr__(name: str) -> object:
    if name in ("Prediction", "Predictor"):
        from nfn_cli.predictors import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
