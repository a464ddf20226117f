"""Gradient boosting learns, repeats itself per seed, and names its extra where scikit-learn is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nfn_cli.errors import ExitCode, SurroundingsFailed
from nfn_cli.train.boosting import BoostingConfig, fit_boosting

FAST = BoostingConfig(iterations=40, learning_rate=0.2)


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    statistics = np.random.default_rng(seed).normal(size=(400, 6))
    return statistics, np.tanh(statistics[:, 0] * statistics[:, 1]) + 0.5 * statistics[:, 2]


def test_it_predicts_rows_it_has_not_seen_and_noise_cannot_be_predicted() -> None:
    pytest.importorskip("sklearn")
    (train, target), (fresh, actual) = rows(0), rows(1)
    assert np.corrcoef(fit_boosting(train, target, FAST)(fresh), actual)[0, 1] > 0.8
    shuffled = np.random.default_rng(2).permutation(target)
    assert abs(np.corrcoef(fit_boosting(train, shuffled, FAST)(fresh), actual)[0, 1]) < 0.3


def test_the_seed_decides() -> None:
    pytest.importorskip("sklearn")
    train, target = rows(0)
    first, again, other = (fit_boosting(train, target, FAST, seed=s)(train) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_missing_scikit_learn_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(SurroundingsFailed, match=r"nfn-cli\[boosting\]") as raised:
        fit_boosting(*rows(0))
    assert raised.value.exit_code == ExitCode.SURROUNDINGS_FAILED
