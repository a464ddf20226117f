"""train/zoo_data.py: the networks of zoos in memory with their scores and sides of the split. Knows zoo/; no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Graph
from nfn_cli.graph.stored_graph import functions_of
from nfn_cli.train.zoo_part import Part, kept_parts, read_part
from nfn_cli.zoo.open_zoo import final_rows, form_of, open_zoo
from nfn_cli.zoo.split import fold_of_run, split_of_run

Array = np.ndarray[Any, np.dtype[Any]]
SCORE = "test_accuracy"


@dataclass(frozen=True)
class ZooData:
    """Networks of one or several zoos.

    Attributes:
        parts: the networks, by graph; their rows cover 0..n−1.
        target: (n,) scores in [0, 1].
        runs: (n,) names, of one zoo each; final: (n,) last checkpoint of its run.
        test: (n,) test side; fold: (n,) fold, of meaning for the others only. Both are settled by the run's own name:
            a run is on the same side whatever other zoos are read beside its own.
        kind: (n,) what sort of network, in words: architecture and activation.
        description: of the zoos.
        left_out: rows that were not finite or not accepted, with the reason.
    """

    parts: tuple[Part, ...]
    target: Array
    runs: Array
    final: Array
    test: Array
    fold: Array
    kind: Array
    description: str
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.target)

    def where(self, keep: Array) -> ZooData:
        """The rows for which `keep` (bool) holds, in their order."""
        columns = ("target", "runs", "final", "test", "fold", "kind")
        return replace(
            self, parts=kept_parts(self.parts, keep), **{name: getattr(self, name)[keep] for name in columns}
        )


Accept = Callable[[Graph, Mapping[str, Array]], tuple[Graph, Mapping[str, Array]]]


def load_zoos(
    folders: Sequence[str | Path],
    *,
    activation: str | None = None,
    score: str = SCORE,
    test_fraction: float = 0.15,
    folds: int = 6,
    seed: int = 0,
) -> ZooData:
    """All checkpoints of the zoos. Rows with a weight or a score that is not finite are left out and counted.

    Raises:
        WrongUsage: nothing is left; a score outside [0, 1]; a zoo is named twice.
        Refused, SurroundingsFailed: as `open_zoo`.
    """
    parts: list[Part] = []
    columns: dict[str, list[Array]] = {"target": [], "own": [], "runs": [], "final": [], "kind": []}
    descriptions, left_out, start = [], {}, 0
    seen: set[str] = set()
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise WrongUsage("a zoo is named twice", where=", ".join(map(str, folders)))
    for folder in folders:
        zoo = open_zoo(folder, activation=activation, final_only=False)
        own = runs = zoo.runs.astype(str)
        if seen & set(runs.tolist()):  # runs of two zoos that are both called 0, 1, … are different runs
            runs = np.array([f"{folder}/{run}" for run in runs])
        seen |= set(runs.tolist())
        target = zoo.numbers(score)
        finite = np.isfinite(target)
        kind = np.full(len(zoo), "", dtype=object)
        told = "config.architecture" in zoo.columns
        architecture = zoo.columns["config.architecture"] if told else np.full(len(zoo), "small-cnn")
        for family in zoo.families:
            part, finite_here = read_part(family, start)
            finite[family.rows] &= finite_here
            kind[family.rows] = [f"{each}, {_functions(family.graph)}" for each in architecture[family.rows]]
            parts.append(part)
        if not finite.all():
            left_out[f"{folder}: a weight or the score is not finite"] = int((~finite).sum())
        columns["target"].append(np.where(finite, target, np.nan))
        columns["own"].append(own)
        columns["runs"].append(runs)
        columns["final"].append(np.asarray(final_rows(zoo, form_of(Path(folder)))))
        columns["kind"].append(kind)
        descriptions.append(f"{zoo.description}, {int(finite.sum())} checkpoints of {len(set(runs[finite]))} runs")
        start += len(zoo)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    data = ZooData(
        tuple(parts),
        joined["target"],
        joined["runs"],
        joined["final"],
        split_of_run(joined["own"], test_fraction, seed),
        fold_of_run(joined["own"], folds, seed),
        joined["kind"].astype(str),
        "; ".join(descriptions),
        left_out,
    ).where(np.isfinite(joined["target"]))
    if not len(data):
        raise WrongUsage("no network with finite weights and scores", where=", ".join(map(str, folders)))
    if data.target.min() < 0 or data.target.max() > 1:
        raise WrongUsage(
            f"{score} goes from {data.target.min():g} to {data.target.max():g}", fix="scores are in [0, 1]"
        )
    return data


def _functions(graph: Graph) -> str:
    return "+".join(dict.fromkeys(functions_of(graph))) or "linear"
