"""zoo/summary.py: what a zoo holds, in a few numbers. Knows zoos; keeps no column."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.graph.stored_graph import functions_of
from nfn_cli.zoo.checkpoint_folder import Progress
from nfn_cli.zoo.columns import Columns, numbers_of
from nfn_cli.zoo.csv_blocks import Array, texts_of
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import final_rows, form_of, open_zoo
from nfn_cli.zoo.split_table import split_summary

_DISTINCT = 1000  # different words of a column that are told apart
_SHOWN = 8
_TEST_FRACTION = 0.15


@dataclass(frozen=True)
class NetworkKind:
    """The architecture of a family in words and numbers.

    Attributes:
        layers: kinds of its weighted layers, from the input.
        widths: units of the input and of each of these layers.
        activation: functions in use, in order of first use.
        normalization: kinds of normalization in use.
        residual: whether values are added.
        parameters: entries of all tensors of the graph.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    activation: tuple[str, ...]
    normalization: tuple[str, ...]
    residual: bool
    parameters: int

    def in_words(self) -> str:
        """As in "3 conv + 1 linear, 1-16-16-16-10, relu"."""
        runs: list[list[Any]] = []
        for layer in self.layers:
            if runs and runs[-1][0] == layer:
                runs[-1][1] += 1
            else:
                runs.append([layer, 1])
        parts = [" + ".join(f"{count} {layer}" for layer, count in runs), "-".join(map(str, self.widths))]
        parts += [*self.activation, *self.normalization, *(["residual"] if self.residual else [])]
        return ", ".join(part for part in parts if part)


def network_kind(graph: Graph) -> NetworkKind:
    """The architecture of a graph in words and numbers."""
    weighted = [op for op in graph.ops if op.kind in ("linear", "conv") and "weight" in op.parameters]
    widths = [graph.parameter_shapes[op.parameters["weight"]][op.attributes["out_axis"]] for op in weighted]
    first = [shape for entry in graph.inputs[:1] if len(shape := entry.shape) > 1]
    start = [n for shape in first if (n := shape[1]) is not None]
    norms = [op.kind for op in graph.ops if op.kind.endswith("_norm") or op.kind.endswith("normalize")]
    return NetworkKind(
        layers=tuple(op.kind for op in weighted),
        widths=(*start, *widths),
        activation=tuple(dict.fromkeys(functions_of(graph))),
        normalization=tuple(dict.fromkeys(norms)),
        residual=any(op.kind == "add" for op in graph.ops),
        parameters=sum(math.prod(shape) for shape in graph.parameter_shapes.values()),
    )


@dataclass
class ColumnSummary:
    """Grows with the cells shown to it.

    Attributes:
        missing: empty cells and numbers that are not finite.
        low, high: range of the finite numbers, as long as all cells are numbers.
        numeric: whether every cell so far is a number or empty.
        words: different cells, up to a limit.
    """

    missing: int = 0
    low: float = math.inf
    high: float = -math.inf
    numeric: bool = True
    words: set[str] = field(default_factory=set)

    def see(self, cells: Array) -> None:
        if len(self.words) <= _DISTINCT:
            self.words |= set(texts_of(np.unique(cells)).tolist()) - {""}
        if self.numeric:
            try:
                finite = (numbers := numbers_of(cells))[np.isfinite(numbers)]
            except ValueError:
                self.numeric = False
            else:
                self.missing += len(cells) - len(finite)
                if len(finite):
                    self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
                return
        self.missing += int((cells == cells.dtype.type()).sum()) if cells.dtype != object else cells.tolist().count("")

    def as_json(self, name: str) -> dict[str, Any]:
        numeric = self.numeric and self.low <= self.high
        distinct = len(self.words) if len(self.words) <= _DISTINCT else None
        return {
            "name": name,
            "kind": "number" if numeric else "text",
            "missing": self.missing,
            "range": [self.low, self.high] if numeric else None,
            "distinct": distinct,
            "values": None if numeric or distinct is None or distinct > _SHOWN else sorted(self.words),
        }


def column_summaries(columns: Columns) -> list[dict[str, Any]]:
    """Range or words of every column, in one pass."""
    found = {name: ColumnSummary() for name in columns}
    for cells in columns.blocks():
        for name, some in cells.items():
            found[name].see(some)
    return [summary.as_json(name) for name, summary in found.items()]


def summary_of(path: str | Path, progress: Progress = iter) -> dict[str, Any]:
    """Everything `nfn zoo info` tells of a zoo of any form, as plain values.

    Raises:
        Refused, SurroundingsFailed: as `open_zoo`.
    """
    zoo = open_zoo(path, final_only=False, progress=progress)
    final = zoo.where(final_rows(zoo, form_of(Path(path))))
    told = _runs_told(zoo)
    return {
        "description": zoo.description,
        "rows": len(zoo),
        "form": form_of(Path(path)).name,
        "final_rows": len(final),
        "runs": len(np.unique(zoo.runs)) if told else None,
        "families": [
            {
                "name": family.name,
                "rows": len(family),
                "network": kind.in_words(),
                "layers": list(kind.layers),
                "widths": list(kind.widths),
                "activation": list(kind.activation),
                "normalization": list(kind.normalization),
                "residual": kind.residual,
                "parameters": kind.parameters,
            }
            for family in zoo.families
            for kind in [network_kind(family.graph)]
        ],
        "columns": column_summaries(zoo.columns),
        "split": split_summary(final, _TEST_FRACTION, 0) if told else None,
        "left_out": [{"path": each.path, "code": each.code, "reason": each.reason} for each in zoo.left_out],
    }


def _runs_told(zoo: Zoo) -> bool:
    try:
        return len(zoo.runs) == len(zoo)
    except Refused:
        return False
