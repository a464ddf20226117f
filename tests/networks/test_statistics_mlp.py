"""An MLP on statistics: in units of the training networks, and no statistic decides alone, however far off it is."""

from __future__ import annotations

import pytest
import torch

from nfn_cli.networks.probing import Answers
from nfn_cli.networks.statistics_mlp import StatisticsMlp, StatisticsMlpConfig

SIZE = 7


def batch(seed: int, rows: int = 50) -> Answers:
    return Answers(torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def fitted(training: Answers, seed: int = 0) -> StatisticsMlp:
    torch.manual_seed(seed)
    model = StatisticsMlp(SIZE, StatisticsMlpConfig(width=16, depth=2, dropout=0.5)).double().eval()
    model.fit_normalization(training)
    return model


def test_units_of_the_statistics_do_not_matter() -> None:
    units, origin = torch.logspace(-3, 3, SIZE, dtype=torch.float64), torch.arange(SIZE, dtype=torch.float64)
    here = fitted(batch(0))
    there = fitted(Answers(batch(0).statistics * units + origin))
    moved = Answers(batch(1).statistics * units + origin)
    torch.testing.assert_close(there.forward_prepared(moved), here.forward_prepared(batch(1)))
    assert not torch.allclose(here.forward_prepared(moved), here.forward_prepared(batch(1)))  # the control


def test_one_statistic_far_outside_has_a_bounded_say() -> None:
    model, inside = fitted(batch(0)), batch(1).statistics
    far = [inside.clone() for _ in range(2)]
    far[0][:, 2], far[1][:, 2] = 1e6, 1e12
    answers = [model(statistics) for statistics in far]
    torch.testing.assert_close(answers[0], answers[1])
    assert (answers[0] - model(inside)).abs().max() > 1e-3  # the control: it has a say


def test_a_statistic_that_is_the_same_for_all_is_no_division_by_zero() -> None:
    statistics = batch(0).statistics
    statistics[:, 3] = 0.25
    model = fitted(Answers(statistics))
    assert torch.isfinite(model(statistics)).all()


@pytest.mark.parametrize("outputs", [1, 3])
def test_rows_are_answered_one_by_one(outputs: int) -> None:
    model = StatisticsMlp(SIZE, outputs=outputs).double().eval()
    many = batch(2)
    alone = torch.cat([model.forward_prepared(many[slice(row, row + 1)]) for row in range(len(many))])
    torch.testing.assert_close(alone, model.forward_prepared(many))
    assert alone.shape == (50, outputs)


def test_dropout_is_for_training_alone() -> None:
    model = fitted(batch(0))
    assert torch.equal(model(batch(1).statistics), model(batch(1).statistics))
    model.train()
    assert not torch.equal(model(batch(1).statistics), model(batch(1).statistics))
