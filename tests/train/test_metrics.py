"""Scores agree with slow definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.train.metrics import coverage, scores


def tau_by_pairs(a: np.ndarray, b: np.ndarray) -> float:
    """τ-b over all pairs, one by one."""
    agree = ties_a = ties_b = total = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            agree, ties_a, ties_b, total = agree + x * y, ties_a + (x == 0), ties_b + (y == 0), total + 1
    return float(agree / np.sqrt((total - ties_a) * (total - ties_b)))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_tau_counts_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 25).astype(float), rng.standard_normal(25)
    assert scores(a, b).kendall_tau == pytest.approx(tau_by_pairs(a, b))


def test_r2_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    actual = np.array([0.1, 0.4, 0.2, 0.3])
    assert scores(actual, actual).r2 == 1.0
    assert scores(np.full(4, 0.25), actual).r2 == pytest.approx(0.0)


def test_coverage_counts_ends_as_inside() -> None:
    actual = np.array([0.1, 0.2, 0.3, 0.4])
    assert coverage(np.full(4, 0.2), np.full(4, 0.3), actual) == 0.5
