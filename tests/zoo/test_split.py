"""Runs keep together and keep their side, whatever else is in the zoo."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nfn_cli.zoo import fold_of_run, split_of_run

RUNS = st.lists(st.text(max_size=8), min_size=1, max_size=30)


@given(runs=RUNS, seed=st.integers(0, 100))
def test_rows_of_one_run_fall_on_one_side_and_in_one_fold(runs: list[str], seed: int) -> None:
    rows = runs + runs[::-1]
    side, fold = split_of_run(rows, 0.5, seed), fold_of_run(rows, 5, seed)
    assert len({(r, s, f) for r, s, f in zip(rows, side, fold, strict=True)}) == len(set(runs))


@given(runs=RUNS)
def test_a_run_keeps_its_side_when_others_come_or_go(runs: list[str]) -> None:
    assert split_of_run(runs[:1], 0.5)[0] == split_of_run(runs, 0.5)[0]


def test_the_share_is_about_what_was_asked_for_and_the_folds_are_even() -> None:
    names = [str(i) for i in range(4000)]
    assert abs(split_of_run(names, 0.15).mean() - 0.15) < 0.03
    assert np.bincount(fold_of_run(names, 5), minlength=5).min() > 700


def test_another_seed_gives_another_split() -> None:
    names = [str(i) for i in range(200)]
    assert (split_of_run(names, 0.5, 0) != split_of_run(names, 0.5, 1)).sum() > 50


def test_a_split_by_row_would_tear_runs_apart() -> None:
    rows = np.repeat([str(i) for i in range(100)], 2)
    torn = split_of_run([f"{run}/{step}" for step, run in enumerate(rows)], 0.5)
    assert (torn[::2] != torn[1::2]).any()  # the control: hashing rows instead of runs fails the first law
