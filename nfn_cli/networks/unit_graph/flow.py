"""unit_graph/flow.py: second moments and sums carried along a plan as if every function were linear. Knows plans and torch.

Upwards, the Gram matrix of all paths from the input to a value; downwards, that of all paths to the output; and the sum
of all paths from each bias, and from the mean of the input, to the outputs. All are tensors over slots that move as the
slots do, so that spectra, diagonals and what stands at the outputs are invariants that cross layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nfn_cli.networks.unit_graph.plan import (
    BlurStep,
    JoinStep,
    LayerStep,
    Plan,
    PointwiseStep,
    ShiftStep,
    Step,
    TakeStep,
)
from nfn_cli.networks.unit_graph.slots import Link


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one value: Gram matrix (b, n, n) and sums (b, n, sources); n = 1 where only an average is kept."""

    gram: Tensor
    sums: Tensor


def upward(plan: Plan, blocks: Mapping[int, Tensor], biases: Mapping[int, Tensor]) -> dict[str, Moments]:
    """Moments of every value, sources being the input and then each layer's bias.

    Args:
        blocks: layer number -> (b, groups, p, q, positions).
        biases: layer number -> (b, n), what flips with the slot.
    """
    first = blocks[0]
    b, sources = len(first), len(plan.layers) + 1
    values: dict[str, Moments] = {}
    for name in plan.inputs:
        slots = plan.values[name]
        count = 1 if slots is None else len(slots)
        sums = first.new_zeros(b, count, sources)
        sums[:, :, 0] = 1.0
        values[name] = Moments(torch.eye(count, dtype=first.dtype).expand(b, count, count), sums)
    for step in plan.steps:
        if isinstance(step, LayerStep):
            values[step.writes] = _through_layer(step, values[step.reads], blocks[step.number], biases[step.number])
        else:
            values[step.writes] = _through(step, values, first)
    return values


def _through_layer(step: LayerStep, value: Moments, blocks: Tensor, bias: Tensor) -> Moments:
    gram, sums = _arrived(step.link, value)
    b, groups, p, q, _ = blocks.shape
    gram = gram.reshape(b, groups, q, groups, q)
    out = torch.zeros(b, groups * p, groups * p, dtype=blocks.dtype)
    for position in range(blocks.shape[4]):
        w = blocks[..., position]
        half = torch.einsum("bgpq,bgqhr->bgphr", w, gram)
        out += torch.einsum("bgphr,bhsr->bgphs", half, w).reshape(out.shape)
    total = torch.einsum("bgpq,bgqs->bgps", blocks.sum(4), sums.reshape(b, groups, q, -1)).flatten(1, 2)
    total = total.clone()
    total[:, :, step.number + 1] += bias
    return Moments(out, total)


def _arrived(link: Link, value: Moments) -> tuple[Tensor, Tensor]:
    """What an axis sees of a value (link.aligned says whether its slots are the value's)."""
    count = len(link.keep)
    keep = torch.from_numpy(link.keep).to(value.gram.dtype)
    if not link.aligned:
        level = torch.diagonal(value.gram, dim1=1, dim2=2).mean(1)
        gram = level[:, None, None] * torch.eye(count, dtype=value.gram.dtype)
        return gram, value.sums.new_zeros(len(value.sums), count, value.sums.shape[2])
    off = keep[:, None] * keep[None, :]
    off = off + (1 - off) * torch.eye(count, dtype=off.dtype)
    return value.gram * off, value.sums * keep[:, None]


def _through(step: Step, values: Mapping[str, Moments], like: Tensor) -> Moments:
    if isinstance(step, PointwiseStep | ShiftStep):
        return values[step.reads]
    assert isinstance(step, JoinStep | TakeStep | BlurStep)
    read = [values[name] for name in step.reads]
    if isinstance(step, JoinStep):
        keep = torch.from_numpy(step.keep).to(like.dtype)
        off = keep[:, None] * keep[None, :]
        off = off + (1 - off) * torch.eye(len(keep), dtype=like.dtype)
        gram = sum((v.gram for v in read[1:]), read[0].gram) * off
        return Moments(gram, sum((v.sums for v in read[1:]), read[0].sums) * keep[:, None])
    if isinstance(step, TakeStep):
        sizes = [v.gram.shape[1] for v in read]
        gram = read[0].gram.new_zeros(len(read[0].gram), sum(sizes), sum(sizes))
        start = 0
        for size, value in zip(sizes, read, strict=True):
            gram[:, start : start + size, start : start + size] = value.gram
            start += size
        index = torch.from_numpy(step.index)
        return Moments(gram[:, index][:, :, index], torch.cat([v.sums for v in read], 1)[:, index])
    levels = [torch.diagonal(v.gram, dim1=1, dim2=2).mean(1) for v in read] or [like.new_ones(len(like))]
    level = torch.stack(levels).mean(0)
    return Moments(level[:, None, None], like.new_zeros(len(like), 1, _sources(values)))


def _sources(values: Mapping[str, Moments]) -> int:
    return next(iter(values.values())).sums.shape[2]


def downward(plan: Plan, blocks: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Gram matrices (b, n, n) of all paths from each value to the outputs."""
    like = blocks[0]
    values: dict[str, Tensor] = {}
    for name, slots in plan.values.items():
        count = 1 if slots is None else len(slots)
        values[name] = like.new_zeros(len(like), count, count)
    for name in plan.outputs:
        values[name] = values[name] + torch.eye(values[name].shape[1], dtype=like.dtype)
    for step in reversed(plan.steps):
        if isinstance(step, LayerStep):
            arrived = _down_layer(step, values[step.writes], blocks[step.number])
            values[step.reads] = values[step.reads] + _landed(step.link, arrived, values[step.reads].shape[1])
        else:
            _down(step, values)
    return values


def _down_layer(step: LayerStep, gram: Tensor, blocks: Tensor) -> Tensor:
    b, groups, p, q, _ = blocks.shape
    gram = gram.reshape(b, groups, p, groups, p)
    out = torch.zeros(b, groups * q, groups * q, dtype=blocks.dtype)
    for position in range(blocks.shape[4]):
        w = blocks[..., position]
        half = torch.einsum("bgpq,bgphr->bgqhr", w, gram)
        out += torch.einsum("bgqhr,bhrs->bgqhs", half, w).reshape(out.shape)
    return out


def _landed(link: Link, gram: Tensor, count: int) -> Tensor:
    """From the axis that reads back to the value that is read (n = `count`)."""
    if not link.aligned:
        level = torch.diagonal(gram, dim1=1, dim2=2).mean(1)
        return level[:, None, None] * torch.eye(count, dtype=gram.dtype)
    keep = torch.from_numpy(link.keep).to(gram.dtype)
    off = keep[:, None] * keep[None, :]
    return gram * (off + (1 - off) * torch.eye(count, dtype=off.dtype))


def _down(step: Step, values: dict[str, Tensor]) -> None:
    gram = values[step.writes]
    if isinstance(step, PointwiseStep | ShiftStep):
        values[step.reads] = values[step.reads] + gram
    elif isinstance(step, JoinStep):
        keep = torch.from_numpy(step.keep).to(gram.dtype)
        off = keep[:, None] * keep[None, :]
        off = off + (1 - off) * torch.eye(len(keep), dtype=gram.dtype)
        for name in step.reads:
            values[name] = values[name] + gram * off
    elif isinstance(step, TakeStep):
        sizes = [values[name].shape[1] for name in step.reads]
        index = torch.from_numpy(step.index)
        whole = gram.new_zeros(len(gram), sum(sizes), sum(sizes))
        whole[:, index[:, None], index[None, :]] = gram
        start = 0
        for name, size in zip(step.reads, sizes, strict=True):
            values[name] = values[name] + whole[:, start : start + size, start : start + size]
            start += size
    elif isinstance(step, BlurStep):
        level = torch.diagonal(gram, dim1=1, dim2=2).mean(1)[:, None, None]
        for name in step.reads:
            values[name] = values[name] + level * torch.eye(values[name].shape[1], dtype=gram.dtype)
