"""What the README says of measurements is what their output files say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def benchmark(name: str) -> ModuleType:
    # by path: a package of that name may be installed
    spec = importlib.util.spec_from_file_location(f"nfn_benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


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


def test_nothing_that_was_measured_is_wrong() -> None:
    rows = [line.split("|") for line in coverage_table().splitlines()[2:]]
    assert len(rows) == 4
    assert all(row[-2].strip() == "0" for row in rows)
