"""unit_graph/encoding.py: networks of one graph -> the arrays a model reads: balanced, invariant where fixed. No learned part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.unit_graph.balance import balanced
from nfn_cli.networks.unit_graph.blocks import bias_features, edge_blocks, smooth_coefficients
from nfn_cli.networks.unit_graph.field_statistics import layer_fields, network_fields
from nfn_cli.networks.unit_graph.flow import downward, upward
from nfn_cli.networks.unit_graph.layer_statistics import layer_statistics, network_statistics
from nfn_cli.networks.unit_graph.lowering import without_batch_norm
from nfn_cli.networks.unit_graph.mean_field import mean_field
from nfn_cli.networks.unit_graph.plan import Bias, Plan, ShiftStep
from nfn_cli.networks.unit_graph.planning import plan_of

Array = np.ndarray[Any, np.dtype[Any]]
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class UnitGraphGroup:
    """Networks of one graph.

    Attributes:
        plan: of the graph.
        edges: for each layer (b, groups, p, q, COEFFICIENTS): smooth coefficients of the kernels, times √fan-in.
        biases: for each layer, then for each addend that is no layer's: (b, n, 2), see blocks.bias_features.
        layer_statistics: (b, layers, s). network_statistics: (b, t).
        layer_fields, network_fields: the same of what inputs without data do (field_statistics.py).
    """

    plan: Plan
    edges: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    layer_statistics: Tensor
    network_statistics: Tensor
    layer_fields: Tensor
    network_fields: Tensor

    def __len__(self) -> int:
        return len(self.layer_statistics)

    def __getitem__(self, rows: slice | Tensor) -> UnitGraphGroup:
        return self.map(lambda t: t[rows])

    def map(self, function: Any) -> UnitGraphGroup:
        """`function` applied to every tensor."""
        return UnitGraphGroup(
            self.plan,
            tuple(map(function, self.edges)),
            tuple(map(function, self.biases)),
            function(self.layer_statistics),
            function(self.network_statistics),
            function(self.layer_fields),
            function(self.network_fields),
        )


@dataclass(frozen=True, slots=True)
class UnitGraphBatch:
    """Networks of several graphs: row r of the batch is row `rows[g][i] = r` of group g.

    Attributes:
        groups: one for each graph.
        rows: for each group the rows of the batch that its networks are, (b_g,) int64.
    """

    groups: tuple[UnitGraphGroup, ...]
    rows: tuple[Tensor, ...]

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)

    def __getitem__(self, rows: slice | Tensor) -> UnitGraphBatch:
        """The batch with these rows, in this order."""
        wanted = torch.arange(len(self))[rows]
        group_of, place_of = torch.zeros(len(self), dtype=torch.long), torch.zeros(len(self), dtype=torch.long)
        for number, mine in enumerate(self.rows):
            group_of[mine], place_of[mine] = number, torch.arange(len(mine))
        groups, places = [], []
        for number, group in enumerate(self.groups):
            at = torch.nonzero(group_of[wanted] == number)[:, 0]
            if len(at):
                groups.append(group[place_of[wanted[at]]])
                places.append(at)
        return UnitGraphBatch(tuple(groups), tuple(places))

    def to(self, dtype: torch.dtype) -> UnitGraphBatch:
        """The same in another dtype."""
        return UnitGraphBatch(tuple(group.map(lambda t: t.to(dtype)) for group in self.groups), self.rows)


def encode(graph: Graph, tensors: Mapping[str, Array]) -> UnitGraphBatch:
    """Networks of one graph, tensors stacked (rows, *shape) -> a batch in float64, rows in order.

    The only step that sees scales. Rows do not see one another: a network alone gives what it gives in company.

    Raises:
        Refused: a number is not finite, a tensor is missing, or the graph cannot be followed.
    """
    missing = [name for name in graph.parameter_shapes if name not in tensors]
    if missing:
        raise Refused(f"no tensor {missing[0]!r}", code="missing-tensor")
    lowered, arrays = without_batch_norm(graph, tensors)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise Refused("a weight is NaN or infinite", where=name, code="non-finite-weights")
    plan = plan_of(lowered)
    count = len(next(iter(arrays.values())))
    parts = []
    for start in range(0, max(count, 1), _CHUNK):
        chunk = {name: torch.from_numpy(np.ascontiguousarray(a[start : start + _CHUNK])) for name, a in arrays.items()}
        parts.append(_encoded(plan, chunk))
    return UnitGraphBatch((_stacked(parts),), (torch.arange(count),))


def encode_network(graph: Graph, tensors: Mapping[str, Array]) -> UnitGraphBatch:
    """One network, tensors (*shape) -> a batch of one."""
    return encode(graph, {name: np.asarray(tensors[name])[None] for name in graph.parameter_shapes if name in tensors})


def joined(batches: Sequence[UnitGraphBatch]) -> UnitGraphBatch:
    """Batches one after another; each keeps its groups."""
    groups: list[UnitGraphGroup] = []
    rows: list[Tensor] = []
    start = 0
    for batch in batches:
        groups += batch.groups
        rows += [mine + start for mine in batch.rows]
        start += len(batch)
    return UnitGraphBatch(tuple(groups), tuple(rows))


@torch.no_grad()
def _encoded(plan: Plan, tensors: dict[str, Tensor]) -> UnitGraphGroup:
    tensors = balanced(plan.symmetry, tensors)
    rows = len(next(iter(tensors.values())))
    blocks, kernels, edges, biases, odd = {}, {}, [], [], {}
    for step in plan.layers:
        block, kernel = edge_blocks(step.weights, tensors[step.weights.name])
        blocks[step.number], kernels[step.number] = block, kernel
        edges.append(smooth_coefficients(block, kernel) * (block.shape[3] * block.shape[4]) ** 0.5)
        biases.append(_bias(plan, step.writes, step.bias, tensors, rows))
        odd[step.number] = biases[-1][:, :, 0]
    shifts = [step for step in plan.steps if isinstance(step, ShiftStep)]
    biases += [_bias(plan, shift.writes, shift.bias, tensors, rows) for shift in shifts]
    up, down = upward(plan, blocks, odd), downward(plan, blocks)
    writing: list[tuple[str, Bias | None]] = [(step.writes, step.bias) for step in plan.layers]
    writing += [(shift.writes, shift.bias) for shift in shifts]
    added = {name: tensors[bias.name].reshape(rows, -1) for name, bias in writing if bias is not None}
    fields = mean_field(plan, blocks, added)
    return UnitGraphGroup(
        plan,
        tuple(edges),
        tuple(biases),
        layer_statistics(plan, blocks, kernels, odd, up, down),
        network_statistics(plan, blocks, up),
        layer_fields(plan, fields),
        network_fields(plan, fields),
    )


def _bias(plan: Plan, value: str, bias: Bias | None, tensors: dict[str, Tensor], rows: int) -> Tensor:
    slots = plan.values[value]
    assert slots is not None  # what a layer or an addend writes is followed slot by slot
    return bias_features(bias, tensors, rows, len(slots))


def _stacked(parts: list[UnitGraphGroup]) -> UnitGraphGroup:
    first = parts[0]
    if len(parts) == 1:
        return first
    return UnitGraphGroup(
        first.plan,
        tuple(torch.cat(each) for each in zip(*(p.edges for p in parts), strict=True)),
        tuple(torch.cat(each) for each in zip(*(p.biases for p in parts), strict=True)),
        torch.cat([p.layer_statistics for p in parts]),
        torch.cat([p.network_statistics for p in parts]),
        torch.cat([p.layer_fields for p in parts]),
        torch.cat([p.network_fields for p in parts]),
    )
