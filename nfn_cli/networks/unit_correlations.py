"""networks/unit_correlations.py: how alike units of two networks respond to the same inputs. Runs graphs in torch; no file.

A unit's response is what its layer makes of it before the nonlinearity, after the norms behind the layer: there the group acts
by scales, signs and shifts only, which correlations do not see (signs: their absolute values). Sums are streamed: no response
outlives its batch; every position of a convolution is one more sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.match.equivalent import Pair
from nfn_cli.networks.graph_evaluator import takes_input, unknown_in
from nfn_cli.networks.graph_evaluator.batch import for_any_batch, stated_batch
from nfn_cli.networks.graph_evaluator.run import watched
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.solve import Action, Symmetry

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]

_LAYERS = {"linear": -1, "conv": 1, "batch_norm": 1}  # the axis of their values on which units are
_PASSES_ON = frozenset(
    {"batch_norm", "scale"}
)  # what only rescales a unit's response, and whose own value is watched instead
_BATCH_ENTRIES = 1 << 23  # of watched values at a time


@dataclass(frozen=True, eq=False)
class _Source:
    """A value in which units of one set are seen: (n,) their slots on its axis."""

    number: int
    slots: IntArray
    signed: bool


def unit_correlations(pair: Pair, inputs: Sequence[Array]) -> dict[int, FloatArray]:
    """Number of each unit set -> (n, n) correlations, ours by theirs, averaged over the values in which the set is seen.

    Where signs of the units may be flipped, absolute values; 0 for units that do not vary.

    Args:
        inputs: for each network (rows, …) for its only input, in the dtype to compute in.

    Raises:
        Refused: a network cannot be run on these inputs (code "cannot-evaluate").
    """
    found: dict[int, list[FloatArray]] = {}
    for network, values in zip(pair.networks, inputs, strict=True):
        reason = next(iter(unknown_in(network.graph)), None) or takes_input(network.graph, tuple(values.shape[1:]))
        if reason is not None:
            raise Refused(reason, where=network.name, code="cannot-evaluate")
        sources = _sources(pair.symmetry, network, pair.left.aliases)
        sums = _streamed(network.graph, pair.left.tensors, pair.right.tensors, values, sources)
        for name, (_, source) in enumerate(_flat(sources)):
            correlation = sums[name].correlation()
            found.setdefault(source.number, []).append(np.abs(correlation) if source.signed else correlation)
    return {number: sum(parts[1:], parts[0]) / len(parts) for number, parts in found.items()}


class _Sums:
    """Moments of two sets of responses, in float64, about the means of the first batch so that nothing cancels."""

    def __init__(self) -> None:
        self.count = 0
        self.parts: list[Tensor] = []
        self.centres: tuple[Tensor, Tensor] | None = None

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """(samples, n) each."""
        if self.centres is None:
            self.centres = ours.mean(0), theirs.mean(0)
        x, y = (side - centre for side, centre in zip((ours, theirs), self.centres, strict=True))
        new = [x.sum(0), y.sum(0), (x * x).sum(0), (y * y).sum(0), x.T @ y]
        self.parts = [a + b.double() for a, b in zip(self.parts or [torch.zeros(())] * 5, new, strict=True)]
        self.count += len(x)

    def correlation(self) -> FloatArray:
        """(n, n)"""
        x, y, xx, yy, xy = (part.numpy() / self.count for part in self.parts)
        deviations = np.sqrt(np.outer(np.maximum(xx - x**2, 0.0), np.maximum(yy - y**2, 0.0)))
        covariance = xy - np.outer(x, y)
        np.divide(covariance, deviations, out=covariance, where=deviations > 0)
        return np.where(deviations > 0, covariance, 0.0)


def _streamed(
    graph: Graph, left: Tensors, right: Tensors, inputs: Array, sources: Mapping[str, list[_Source]]
) -> list[_Sums]:
    """Moments of each source, in their order."""
    size = stated_batch(graph)
    general = graph if size is None else for_any_batch(graph)
    if general is None and size and len(inputs) < size:
        raise Refused(f"the graph was made for batches of {size}, and there are {len(inputs)} inputs")
    run = general or graph
    sides = [
        {name: torch.from_numpy(np.array(side[name])) for name in graph.parameter_shapes} for side in (left, right)
    ]
    (entry,) = graph.inputs
    sums = [_Sums() for _ in _flat(sources)]
    rows = size or 1 if general is None else 1
    start = 0
    with torch.inference_mode():
        while start + rows <= len(inputs) if general is None else start < len(inputs):
            fed = {entry.name: torch.from_numpy(np.array(inputs[start : start + rows]))}
            seen = [_watch(run, tensors, fed, sources) for tensors in sides]
            for total, ours, theirs in zip(sums, *seen, strict=True):
                total.add(ours, theirs)
            start += rows
            if general is not None:  # the first row has shown how much a row is
                rows = max(1, _BATCH_ENTRIES * rows // max(1, sum(value.numel() for value in seen[0])))
    return sums


def _watch(
    graph: Graph, tensors: Mapping[str, Tensor], fed: Mapping[str, Tensor], sources: Mapping[str, list[_Source]]
) -> list[Tensor]:
    """(samples, n) of each source."""
    seen: dict[str, list[Tensor]] = {}

    def see(op: Op, value: Tensor) -> None:
        if op.output in sources:
            moved = value.movedim(_LAYERS[op.kind], -1).flatten(0, -2)
            seen[op.output] = [moved[:, torch.from_numpy(source.slots)] for source in sources[op.output]]

    watched(graph, tensors, fed, see)
    return [value for name in sources for value in seen[name]]


def _flat(sources: Mapping[str, list[_Source]]) -> list[tuple[str, _Source]]:
    return [(name, source) for name, parts in sources.items() for source in parts]


def _sources(symmetry: Symmetry, network: Network, aliases: Mapping[str, str]) -> dict[str, list[_Source]]:
    """Values of layers and norms in which units that can be permuted are seen once each."""
    readers: dict[str, list[str]] = {}
    for op in network.graph.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op.kind)
    found: dict[str, list[_Source]] = {}
    for op in network.graph.ops:
        kinds = set(readers.get(op.output, ()))
        if op.kind not in _LAYERS or (kinds and kinds <= _PASSES_ON):
            continue
        action = _output_action(symmetry, op, aliases)
        parts = [] if action is None else [_seen(symmetry, action, number) for number in range(len(symmetry.unit_sets))]
        if any(parts):
            found[op.output] = [part for part in parts if part is not None]
    return found


def _output_action(symmetry: Symmetry, op: Op, aliases: Mapping[str, str]) -> Action | None:
    """What the group does along the units of the op's value: as it acts on a bias, else on the weight's outputs."""
    axis = op.attributes.get("out_axis", 0)
    for role, dim in (("bias", 0), ("weight", axis), ("running_mean", 0)):
        name = op.parameters.get(role, "")
        actions = [a for a in symmetry.actions.get(aliases.get(name, name), ()) if a.dim == dim]
        if actions:
            return max(actions, key=lambda a: a.signed)
    return None


def _seen(symmetry: Symmetry, action: Action, number: int) -> _Source | None:
    unit_set = symmetry.unit_sets[number]
    slots = np.flatnonzero((action.unit >= unit_set.start) & (action.unit < unit_set.start + unit_set.size))
    units = action.unit[slots] - unit_set.start
    if not unit_set.permutable or not np.array_equal(np.sort(units), np.arange(unit_set.size)):
        return None
    return _Source(number, slots[np.argsort(units)], action.signed and bool((action.sign[:, slots] >= 0).any()))
