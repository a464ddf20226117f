"""What the README says of measurements is what their output files say."""

from __future__ import annotations

import json

from ..benchmark_scripts import ROOT, benchmark


def between(name: str) -> str:
    text = (ROOT / "README.md").read_text()
    return text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]


def coverage_table() -> str:
    coverage = benchmark("coverage")
    table: str = coverage.table([json.loads(line) for line in coverage.OUT.read_text().splitlines()])
    return table


def test_the_table_of_architectures_is_the_benchmarks_own() -> None:
    assert between("coverage") == coverage_table()


def test_the_table_of_predictors_is_that_of_their_cards() -> None:
    assert between("predictors") == benchmark("predictors").table()


def figures_table() -> str:
    figures, run = benchmark("figures"), benchmark("run")
    table: str = figures.table(figures.read(), {name: group.promises for name, group in run.GROUPS.items()})
    return table


def test_the_table_of_figures_is_what_was_measured() -> None:
    assert between("figures") == figures_table()
    assert len(figures_table().splitlines()) > 20


def test_a_missed_target_is_said() -> None:
    figures = benchmark("figures")
    promises = {"group": {"speed": figures.Promise("speed", "{:.1f}×", ("≥", 10))}}
    for value, said in ((9.9, "**no**"), (10.0, "yes")):
        results = {"groups": {"group": {"figures": {"speed": value}}}}
        assert (
            figures.table(results, promises).splitlines()[-1]
            == f"| speed | {value:.1f}× | ≥ 10.0× | {said} | `group` |"
        )


def test_nothing_that_was_measured_is_wrong() -> None:
    rows = [line.split("|") for line in coverage_table().splitlines()[2:]]
    assert len(rows) == 4
    assert all(row[-2].strip() == "0" for row in rows)
