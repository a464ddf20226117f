"""predictors/: trained predictors: cards, loading, interval, in-distribution test. Knows networks/ and graph/; no command.

`load_predictor` imports torch when it is called; cards and chains do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfn_cli.predictors.card import Card
from nfn_cli.predictors.chain_input import ChainWeights, chain_of
from nfn_cli.predictors.shipped import shipped_predictors

if TYPE_CHECKING:
    from nfn_cli.predictors.predictor import Predictor

__all__ = ["Card", "ChainWeights", "chain_of", "load_predictor", "shipped_predictors"]


def load_predictor(name_or_folder: str) -> Predictor:
    """See `predictor.load_predictor`."""
    from nfn_cli.predictors.predictor import load_predictor as load

    return load(name_or_folder)
