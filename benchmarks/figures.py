"""benchmarks/figures.py: what was promised, what was measured, and the table of both. Knows no benchmark.

A benchmark calls `figure` beside printing. Alone it only prints; `benchmarks/run.py` names a file where figures are kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
VARIABLE = "NFN_FIGURES"


@dataclass(frozen=True)
class Promise:
    """One figure.

    Attributes:
        what: in words.
        shown: how a value is written, a format string.
        target: "≤" or "≥" and a number, or nothing where a figure is shown for orientation only.
    """

    what: str
    shown: str = "{:.2f}"
    target: tuple[str, float] | None = None

    def kept(self, value: float) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        sign, bound = self.target
        return value <= bound if sign == "≤" else value >= bound


def figure(key: str, value: float) -> None:
    """Leave a measured figure where benchmarks/run.py looks for it."""
    if VARIABLE in os.environ:
        with open(os.environ[VARIABLE], "a") as file:
            file.write(json.dumps({"key": key, "value": float(value)}) + "\n")


def table(results: Mapping[str, Any], promises: Mapping[str, Mapping[str, Promise]]) -> str:
    """Markdown: a row for each figure that was measured, in the order of the promises."""
    lines = ["| figure | measured | target | met | from |", "| --- | ---: | ---: | --- | --- |"]
    for group, promised in promises.items():
        run = results["groups"].get(group)
        for key, promise in promised.items() if run else ():
            if key not in run["figures"]:
                continue
            value = run["figures"][key]
            target = "" if promise.target is None else f"{promise.target[0]} {promise.shown.format(promise.target[1])}"
            met = {None: "", True: "yes", False: "**no**"}[promise.kept(value)]
            lines.append(f"| {promise.what} | {promise.shown.format(value)} | {target} | {met} | `{group}` |")
    return "\n".join(lines)


def counted(results: Mapping[str, Any], promises: Mapping[str, Mapping[str, Promise]]) -> tuple[int, int, int]:
    """Targets met, missed and not measured."""
    met = missed = open_ = 0
    for group, promised in promises.items():
        found = results["groups"].get(group, {"figures": {}})["figures"]
        for key, promise in promised.items():
            if promise.target is None:
                continue
            kept = promise.kept(found[key]) if key in found else None
            met, missed, open_ = met + (kept is True), missed + (kept is False), open_ + (kept is None)
    return met, missed, open_


def read(path: Path = RESULTS) -> dict[str, Any]:
    """Results so far."""
    return dict(json.loads(path.read_text())) if path.exists() else {"schema": "nfn.benchmarks/1", "groups": {}}


def left_in(path: Path) -> dict[str, float]:
    """Figures that benchmarks left in a file. Where several commands left one, as changes of an answer, the largest counts."""
    found: dict[str, float] = {}
    for line in map(json.loads, path.read_text().splitlines() if path.exists() else ()):
        found[line["key"]] = max(line["value"], found.get(line["key"], line["value"]))
    return found
