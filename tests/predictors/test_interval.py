"""The interval covers its share of new values where calibration and new values are exchangeable, and not elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.predictors.interval import calibrate
from nfn_cli.train.metrics import coverage


def draw(count: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.1, 0.5, count)
    return predicted, predicted + noise * rng.standard_normal(count) * 0.1 * predicted


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_new_values_are_covered_as_often_as_promised(level: float) -> None:
    covered = []
    for seed in range(60):
        predicted, actual = draw(300, 2 * seed + 1)
        low, high = calibrate(*draw(300, 2 * seed), level).around(predicted)
        covered.append(coverage(low, high, actual))
    assert abs(float(np.mean(covered)) - level) < 0.02


def test_twice_the_noise_is_not_covered() -> None:
    low, high = calibrate(*draw(2000, 0)).around(draw(2000, 1, noise=2.0)[0])
    assert coverage(low, high, draw(2000, 1, noise=2.0)[1]) < 0.75


def test_easy_levels_get_narrower_intervals() -> None:
    low, high = calibrate(*draw(2000, 0)).around(np.array([0.12, 0.45]))
    assert (high - low)[0] < 0.7 * (high - low)[1]


def test_ends_stay_between_zero_and_one() -> None:
    low, high = calibrate(np.array([0.5] * 20), np.linspace(0, 1, 20)).around(np.array([0.01, 0.99]))
    assert low.min() >= 0.0
    assert high.max() <= 1.0
