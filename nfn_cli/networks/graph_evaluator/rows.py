"""networks/graph_evaluator/rows.py: a network on a batch of inputs, a few of them at a time. Knows graphs and tensors; no file.

On a CPU a large batch is cut where its rows do not depend on each other, so that every value stays in the cache and in
memory that is used again: half the time in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator.batch import for_any_batch
from nfn_cli.networks.graph_evaluator.run import watched
from nfn_cli.networks.graph_evaluator.shapes import traced

_FEW = 8  # inputs that are never cut
_VALUE_BYTES = {torch.float64: 1 << 20}  # of the largest value; measured, as is the default for other dtypes
_OTHER_VALUE_BYTES = 1 << 21


def evaluate(graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Run the network, in the dtype of its inputs; differentiable with respect to them and to the tensors.

    Args:
        graph: what to run.
        tensors: the graph's parameters by name, of any dtype, on the device of the inputs.
        inputs: one tensor for each graph input, batch axis first, all of one floating dtype.

    Returns:
        The graph's outputs in order.

    Raises:
        Refused: an op that is not known, a missing tensor, or values that do not fit (code "cannot-evaluate").
    """
    return evaluate_in_rows(graph, tensors, inputs, rows_at_once(graph, inputs))


def rows_at_once(graph: Graph, inputs: Mapping[str, Tensor]) -> int | None:
    """How many inputs to show at a time; None: all. It depends on the graph and the inputs' shapes and dtype alone.

    Raises:
        Refused: as `evaluate`.
    """
    lengths = {len(x) if x.ndim else 0 for x in inputs.values()}
    on_cpu = all(x.device.type == "cpu" for x in inputs.values())
    if not on_cpu or len(lengths) != 1 or max(lengths) <= _FEW or for_any_batch(graph) is None:
        return None
    largest = [1]

    def see(_: Op, shape: tuple[int, ...]) -> None:
        largest[0] = max(largest[0], prod(shape))

    some = next(iter(inputs.values()))
    traced(graph, {name: tuple(x.shape[1:]) for name, x in inputs.items()}, see)
    room = _VALUE_BYTES.get(some.dtype, _OTHER_VALUE_BYTES)
    return max(1, room // (some.element_size() * largest[0]))


def evaluate_in_rows(
    graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor], rows: int | None
) -> tuple[Tensor, ...]:
    """As `evaluate`, with that many inputs at a time."""
    count = len(next(iter(inputs.values()))) if rows else 0
    if rows is None or count <= rows:
        return watched(graph, tensors, inputs, None)
    graph = for_any_batch(graph) or graph
    parts = [
        watched(graph, tensors, {name: x[start : start + rows] for name, x in inputs.items()}, None)
        for start in range(0, count, rows)
    ]
    return tuple(torch.cat(answers) for answers in zip(*parts, strict=True))
