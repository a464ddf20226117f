"""networks/batch_norm_statistics.py: running statistics of batch norms measured again on data. Runs graphs in torch; no file.

What a module in training mode with `momentum=None` would hold after one pass: every batch norm is fed by batch norms that
used the statistics of the batch itself. One batch holds all the data where memory allows, and then the statistics are exact:
each norm's input is seen as it is once the norms before it have their new statistics. Averaged weights need this
(arXiv 2209.04836, 2211.08403): the variance of a mean of features is not the mean of their variances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator.batch import for_any_batch, stated_batch
from nfn_cli.networks.graph_evaluator.run import watched
from nfn_cli.networks.graph_evaluator.shapes import traced

Array = np.ndarray[Any, np.dtype[Any]]
_BYTES = 1 << 30  # of values that are alive at one time


@dataclass(frozen=True)
class BatchNormStatistics:
    """Statistics of every batch norm of a graph.

    Attributes:
        tensors: float64 (channels,), by the names of the running means and variances; variances are unbiased, as PyTorch
            keeps them.
        batches: in how many parts the data were shown; the statistics are means over them.
    """

    tensors: Mapping[str, Array]
    batches: int


def has_batch_norm(graph: Graph) -> bool:
    """Whether there are running statistics to be measured."""
    return any(True for _ in _norms(graph))


def measured(graph: Graph, tensors: Mapping[str, Tensor], inputs: Array, *, limit: int = _BYTES) -> BatchNormStatistics:
    """Run the network on the inputs and measure what its batch norms are fed with.

    Args:
        tensors: the graph's parameters by name; they are not changed.
        inputs: (n, …) for the graph's only input, in the dtype to compute in.
        limit: bytes that values may take; it decides how many inputs make a batch.

    Raises:
        Refused: a norm sees one value per channel, or the graph treats rows together in batches of a fixed size.
    """
    if stated_batch(graph) is not None and for_any_batch(graph) is None:
        raise Refused(
            f"statistics cannot be measured on batches of {stated_batch(graph)}, for which alone the graph was made",
            code="cannot-evaluate",
        )
    own, sources = _own_statistics(graph)
    (entry,) = graph.inputs
    row = _live_entries(graph, {entry.name: tuple(inputs.shape[1:])}) * inputs.dtype.itemsize
    parts = np.array_split(inputs, -(-len(inputs) // max(1, limit // max(1, row))))
    totals: dict[str, list[Tensor]] = {}
    for part in parts:
        found = _of_batch(own, tensors, {entry.name: torch.from_numpy(np.ascontiguousarray(part))})
        for name, value in found.items():
            totals.setdefault(sources[name], []).append(value)
    means = {name: torch.stack(values).mean(0).numpy() for name, values in totals.items()}
    return BatchNormStatistics(means, len(parts))


def _of_batch(graph: Graph, tensors: Mapping[str, Tensor], fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistic name of `_own_statistics` -> what this batch gives for it."""
    readers: dict[str, list[Op]] = {}
    for op in _norms(graph):
        readers.setdefault(op.inputs[0], []).append(op)
    given, kept = dict(tensors), {}

    def see(name: str, value: Tensor) -> None:
        # the evaluator asks for a norm's statistics when it comes to the norm: by then its input has been seen
        for op in readers.get(name, ()):
            mean, variance, count = _moments(value)
            if count < 2:
                raise Refused("one value per channel has no variance", where=op.output, code="cannot-evaluate")
            for role, used, stored in (
                ("running_mean", mean, mean),
                ("running_var", variance, variance * (count / (count - 1))),
            ):
                given[op.parameters[role]], kept[op.parameters[role]] = used, stored

    with torch.inference_mode():
        for name, value in fed.items():
            see(name, value)
        watched(graph, given, fed, lambda op, value: see(op.output, value))
    return kept


def _moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of every channel, (C,) float64, and of how many values."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    mean = x.mean(axes, dtype=torch.float64)
    centred = x - mean.to(x.dtype).reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])
    return mean, centred.square().mean(axes, dtype=torch.float64), x.numel() // max(1, x.shape[1])


def _norms(graph: Graph) -> Iterator[Op]:
    for op in graph.ops:
        if op.kind == "batch_norm" and {"running_mean", "running_var"} <= op.parameters.keys():
            yield op


def _own_statistics(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with statistics for every norm alone, though it may share them, and the name that each stands for."""
    sources: dict[str, str] = {}
    shapes = dict(graph.parameter_shapes)
    ops = []
    for number, op in enumerate(graph.ops):
        own = dict(op.parameters)
        for role in ("running_mean", "running_var") if op.kind == "batch_norm" else ():
            if role in own:
                name = f"\0{number}.{role}"  # no name in a file
                sources[name], shapes[name] = own[role], graph.parameter_shapes[own[role]]
                own[role] = name
        ops.append(replace(op, parameters=own))
    return replace(graph, ops=tuple(ops), parameter_shapes=shapes), sources


def _live_entries(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Entries of all values of one input that are needed at one time, at most."""
    entries = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    left = {name: sum(op.inputs.count(name) for op in graph.ops) for name in entries}
    left.update({op.output: sum(other.inputs.count(op.output) for other in graph.ops) for op in graph.ops})
    left.update({name: left.get(name, 0) + 1 for name in graph.outputs})
    most = 0

    def see(op: Op, shape: tuple[int, ...]) -> None:
        nonlocal most
        entries[op.output] = int(np.prod(shape))
        most = max(most, sum(entries.values()))
        for name in op.inputs:
            left[name] -= 1
            if not left[name]:
                entries.pop(name, None)

    traced(graph, shapes, see)
    return most
