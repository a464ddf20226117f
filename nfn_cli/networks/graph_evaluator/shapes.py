"""networks/graph_evaluator/shapes.py: shapes of a graph's values, found by running it on nothing. No number is computed.

Most graphs are run on a batch of no inputs, which costs neither time nor memory. Where values do not come from the
inputs alone, or shapes state the batch, they are run on PyTorch's device of shapes without numbers, "meta", which takes
seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor

from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator.batch import for_any_batch, stated_batch
from nfn_cli.networks.graph_evaluator.run import watched

Shape = tuple[int, ...]

_SOME_BATCH = 3


def traced(graph: Graph, shapes: Mapping[str, Shape], watch: Callable[[Op, Shape], None]) -> tuple[Shape, ...] | None:
    """Shapes of the graph's outputs for one input; None where one has no axis for the batch.

    Args:
        shapes: of the graph's inputs, without the axis of the batch.
        watch: sees every op with the shape of its value, whose axis of the batch has length 1.

    Raises:
        Refused: as `rows.evaluate`.
    """
    general = for_any_batch(graph)
    batch = (stated_batch(graph) or _SOME_BATCH) if general is None else 0

    def of_one(value: Tensor) -> Shape:
        shape = tuple(value.shape)
        return (1, *shape[1:]) if shape[:1] == (batch,) else shape

    device = torch.device("meta" if general is None else "cpu")
    fed = {name: torch.empty((batch, *shape), device=device) for name, shape in shapes.items()}
    answers = watched(general or graph, _tensors(graph, device), fed, lambda op, value: watch(op, of_one(value)))
    if any(answer.shape[:1] != (batch,) for answer in answers):
        return None
    return tuple(of_one(answer) for answer in answers)


def value_entries(graph: Graph, shapes: Mapping[str, Shape]) -> int:
    """Entries of all values that one network makes of one input; `shapes` as for `traced`."""
    entries = [0]

    def count(_: Op, shape: Shape) -> None:
        entries[0] += prod(shape)

    traced(graph, shapes, count)
    return entries[0]


def _tensors(graph: Graph, device: torch.device) -> dict[str, Tensor]:
    """The graph's parameters, each of one number repeated."""
    return {name: torch.zeros((), device=device).expand(shape) for name, shape in graph.parameter_shapes.items()}
