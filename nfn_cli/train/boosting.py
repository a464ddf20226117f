"""train/boosting.py: gradient boosted trees on statistics of a network. Knows arrays; scikit-learn when it fits; no zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.errors import not_installed

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class BoostingConfig:
    """Histogram gradient boosting (scikit-learn).

    Attributes:
        iterations, learning_rate, leaves, l2: of the trees.
        feature_share: share of the statistics that each split may choose from; below 1 the seed matters.
    """

    iterations: int = 300
    learning_rate: float = 0.05
    leaves: int = 31
    l2: float = 0.0
    feature_share: float = 0.3


def fit_boosting(
    statistics: FloatArray, target: FloatArray, config: BoostingConfig | None = None, seed: int = 0
) -> Callable[[FloatArray], FloatArray]:
    """(n, s), (n,) -> a function (m, s) -> (m,). The same seed and rows give the same trees.

    Raises:
        SurroundingsFailed: scikit-learn is not installed; the message names the extra.
    """
    config = config or BoostingConfig()
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        raise not_installed("scikit-learn", "gradient boosting", "boosting") from None
    model = HistGradientBoostingRegressor(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        l2_regularization=config.l2,
        max_features=config.feature_share,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(np.asarray(statistics, dtype=np.float64), np.asarray(target, dtype=np.float64))
    return lambda rows: np.asarray(model.predict(np.asarray(rows, dtype=np.float64)), dtype=np.float64)
