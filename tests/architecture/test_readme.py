"""What the README says of measurements is what their output files say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def coverage_table() -> str:
    # by path: a package named coverage may be installed
    spec = importlib.util.spec_from_file_location("nfn_benchmark_coverage", ROOT / "benchmarks" / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec.loader.exec_module(benchmark)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return benchmark.table([json.loads(line) for line in benchmark.OUT.read_text().splitlines()])


def test_the_table_of_architectures_is_the_benchmarks_own() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.split("<!-- coverage -->\n")[1].split("\n<!-- end of coverage -->")[0] == coverage_table()


def test_nothing_that_was_measured_is_wrong() -> None:
    rows = [line.split("|") for line in coverage_table().splitlines()[2:]]
    assert len(rows) == 4
    assert all(row[-2].strip() == "0" for row in rows)
