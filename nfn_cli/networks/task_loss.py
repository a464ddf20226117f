"""networks/task_loss.py: how well a network does on inputs: which loss fits its answers, the loss, the accuracy. Torch; no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.match.barrier import Performance
from nfn_cli.networks.graph_evaluator import evaluate, takes_input, unknown_in
from nfn_cli.networks.graph_evaluator.shapes import traced

Array = np.ndarray[Any, np.dtype[Any]]
_BATCH = 250
_BYTES = 1 << 30  # of answers that are kept

CROSS_ENTROPY = "cross-entropy"
SQUARED_ERROR = "squared error"
TO_THE_ENDS = "squared distance to the answers of the ends"


@dataclass(frozen=True)
class Task:
    """What is asked of a network.

    Attributes:
        loss: CROSS_ENTROPY where labels number the classes of the first output; SQUARED_ERROR where that is one number and
            should be the label; TO_THE_ENDS where there is no label: answers are compared with those between two networks.
        labels: (n,) int64, or None.
        probabilities: whether the first output is what a softmax made.
    """

    loss: str
    labels: Array | None
    probabilities: bool = False


def why_not_run(graph: Graph, inputs: Array) -> str | None:
    """Why the network cannot be run on these inputs; None if it can."""
    return next(iter(unknown_in(graph)), None) or takes_input(graph, tuple(inputs.shape[1:]))


def task_of(graph: Graph, inputs: Array, labels: Array | None) -> Task:
    """What to measure on inputs that the graph takes.

    Raises:
        Refused: a label is no class (code "bad-inputs"), or the answers would not fit into memory ("too-large").
    """
    (entry,) = graph.inputs
    shapes = traced(graph, {entry.name: tuple(inputs.shape[1:])}, lambda op, shape: None)
    assert shapes is not None  # `takes_input` has seen to it
    answer = shapes[0][1:]
    if len(inputs) * prod(answer) * inputs.dtype.itemsize > _BYTES:
        raise Refused(f"answers of {prod(answer)} numbers for {len(inputs)} inputs", fix="--rows", code="too-large")
    if labels is None or (prod(answer) > 1 and len(answer) > 1):
        return Task(TO_THE_ENDS, None)
    if prod(answer) == 1:
        return Task(SQUARED_ERROR, labels)
    classes = answer[0]
    if labels.min() < 0 or labels.max() >= classes:
        bad = int(labels.max() if labels.max() >= classes else labels.min())
        raise Refused(f"label {bad} for a network of {classes} classes", code="bad-inputs")
    return Task(CROSS_ENTROPY, labels, _ends_in_softmax(graph))


def in_torch(graph: Graph, tensors: Mapping[str, Array], dtype: Any) -> dict[str, torch.Tensor]:
    """The graph's parameters, in the dtype to compute in."""
    return {name: torch.from_numpy(np.array(tensors[name], dtype)) for name in graph.parameter_shapes}


def answers(graph: Graph, tensors: Mapping[str, torch.Tensor], inputs: Array) -> Array:
    """(n, …) the first output, in the dtype of the inputs."""
    (entry,) = graph.inputs
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs), _BATCH):
            some = torch.from_numpy(np.ascontiguousarray(inputs[start : start + _BATCH]))
            parts.append(evaluate(graph, tensors, {entry.name: some})[0])
    return torch.cat(parts).numpy()


def performance(task: Task, answered: Array, wanted: Array | None = None) -> Performance:
    """Loss and accuracy of answers.

    Args:
        answered: (n, …).
        wanted: for TO_THE_ENDS, what the answers are compared with.
    """
    if task.loss == TO_THE_ENDS:
        assert wanted is not None
        return Performance(float(np.square(answered.astype(np.float64) - wanted).mean()), None)
    assert task.labels is not None
    if task.loss == SQUARED_ERROR:
        return Performance(float(np.square(answered.astype(np.float64).reshape(-1) - task.labels).mean()), None)
    rows = torch.from_numpy(answered).double()
    smallest = float(np.finfo(answered.dtype).tiny)  # a probability that rounding made 0
    logs = rows.clamp_min(smallest).log() if task.probabilities else rows.log_softmax(1)
    labels = torch.from_numpy(task.labels)
    right = float((rows.argmax(1) == labels).double().mean())
    return Performance(float(-logs[torch.arange(len(labels)), labels].mean()), right)


def _ends_in_softmax(graph: Graph) -> bool:
    last = next(op for op in graph.ops if op.output == graph.outputs[0])
    return last.kind == "softmax"
