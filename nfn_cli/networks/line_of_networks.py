"""networks/line_of_networks.py: networks between two others, and means of several, run on data. Runs graphs in torch; no file.

One network at a time: its weights and its answers are all that is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.graph.model import Graph, Network
from nfn_cli.match.barrier import Curve, Curves, NotRun, Performance
from nfn_cli.match.merge_average import averaged
from nfn_cli.match.merge_result import Merged, OnData
from nfn_cli.networks.batch_norm_statistics import has_batch_norm, measured
from nfn_cli.networks.task_loss import TO_THE_ENDS, Task, answers, in_torch, performance, task_of, why_not_run

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Data:
    """What a network is run on, in the dtype to compute in.

    Attributes:
        inputs: (n, …).
        labels: (n,) int64, or None.
        statistics: (m, …) what batch norm statistics are measured on; None leaves them as they are.
    """

    inputs: Array
    labels: Array | None
    statistics: Array | None

    def refused_by(self, graph: Graph) -> str | None:
        """Why the graph cannot be run on these; None if it can."""
        shown = [self.inputs] if self.statistics is None else [self.inputs, self.statistics]
        return next((reason for x in shown if (reason := why_not_run(graph, x)) is not None), None)


def network_curves(
    network: Network,
    first: Tensors,
    second: Tensors,
    aligned: Tensors,
    shares: Sequence[float],
    data: Data,
    told: Callable[[], None] = lambda: None,
) -> Curves | NotRun:
    """Loss and accuracy on two lines: from the first network to the second as it is, and to the second aligned.

    Args:
        first, second, aligned: tensors under the names of `network`.
        shares: part of the second network at each point, from 0 to 1.
        told: called after each of the two lines' points was run.
    """
    reason = data.refused_by(network.graph)
    if reason is not None:
        return NotRun(network.name, reason)
    task = task_of(network.graph, data.inputs, data.labels)
    naive, batches = _curve(network.graph, (first, second), shares, task, data, told)
    matched, _ = _curve(network.graph, (first, aligned), shares, task, data, told)
    return Curves(network.name, task.loss, len(data.inputs), batches, naive, matched)


def _curve(
    graph: Graph,
    ends: tuple[Tensors, Tensors],
    shares: Sequence[float],
    task: Task,
    data: Data,
    told: Callable[[], None],
) -> tuple[Curve, int | None]:
    first, last = (_answered(graph, ends, share, data) for share in (shares[0], shares[-1]))
    points = []
    for number, share in enumerate(shares):
        answered = {0: first.outputs, len(shares) - 1: last.outputs}.get(number)
        if answered is None:
            answered = _answered(graph, ends, share, data).outputs
        wanted = (
            (1 - share) * first.outputs.astype(np.float64) + share * last.outputs if task.loss == TO_THE_ENDS else None
        )
        points.append(performance(task, answered, wanted))
        told()
    return Curve(tuple(shares), tuple(points)), first.batches


@dataclass(frozen=True)
class _Answered:
    outputs: Array
    batches: int | None


def _answered(graph: Graph, ends: tuple[Tensors, Tensors], share: float, data: Data) -> _Answered:
    mean = averaged(ends, (1 - share, share), graph.parameter_shapes)
    given = in_torch(graph, mean, data.inputs.dtype)
    if data.statistics is None or not has_batch_norm(graph):
        return _Answered(answers(graph, given, data.inputs), None)
    found = measured(graph, given, data.statistics)
    given |= in_torch(graph, mean | dict(found.tensors), data.inputs.dtype)
    return _Answered(answers(graph, given, data.inputs), found.batches)


def merged_on_data(merged: Merged, network: Network, data: Data) -> tuple[OnData, dict[str, Array]]:
    """What a merged network does on data once its batch norm statistics are measured there, and those statistics.

    Returns:
        The answer; and statistics by name, float64, empty where none were measured.
    """
    graph = network.graph
    reason = data.refused_by(graph)
    if reason is not None:
        return OnData(network.name, reason, None, None, None, None, None), {}
    statistics: dict[str, Array] = {}
    batches = None
    mean = {name: np.asarray(merged.checkpoint.tensors[name]) for name in graph.parameter_shapes}
    if data.statistics is not None and has_batch_norm(graph):
        found = measured(graph, in_torch(graph, mean, data.inputs.dtype), data.statistics)
        statistics, batches = dict(found.tensors), found.batches
    if data.labels is None:
        return OnData(network.name, None, None, len(data.inputs), batches, None, None), statistics
    task = task_of(graph, data.inputs, data.labels)
    if task.loss == TO_THE_ENDS:
        return OnData(network.name, None, None, len(data.inputs), batches, None, None), statistics

    def does(tensors: Tensors) -> Performance:
        return performance(task, answers(graph, in_torch(graph, tensors, data.inputs.dtype), data.inputs))

    each = tuple(does(member.tensors) for member in merged.members)
    return OnData(network.name, None, task.loss, len(data.inputs), batches, each, does(mean | statistics)), statistics
