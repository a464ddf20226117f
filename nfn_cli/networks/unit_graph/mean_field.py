"""unit_graph/mean_field.py: means and variances of every slot, carried through the true functions of a plan. Knows torch.

The network is run on inputs that need no data: images of one brightness, whose convolutions are sums over the kernel, and
white noise, for which slots are taken as independent. Slots are followed as the function acts on them, so whatever keeps
the function moves these numbers as it moves the slots; no sign or phase has to be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nfn_cli.graph.activations import ACTIVATIONS
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

BRIGHTNESS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_NOISE = 0.25
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
# Where functions grow, products of many layers do too: beyond this a number says no more than that it is large.
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Field:
    """Mean and variance of each slot under each input, (b, n, inputs): brightnesses first, noise last."""

    mean: Tensor
    variance: Tensor


def mean_field(plan: Plan, blocks: Mapping[int, Tensor], biases: Mapping[str, Tensor]) -> dict[str, Field]:
    """Fields of all values.

    Args:
        blocks: layer number -> (b, groups, p, q, positions), balanced.
        biases: name of what is written -> (b, n) what is added there.
    """
    first = blocks[0]
    fields: dict[str, Field] = {}
    for name in plan.inputs:
        slots = plan.values[name]
        level = torch.tensor([*BRIGHTNESS, 0.0], dtype=first.dtype)
        spread = torch.tensor([*[0.0] * len(BRIGHTNESS), _NOISE], dtype=first.dtype)
        shape = (len(first), 1 if slots is None else len(slots), len(level))
        fields[name] = Field(level.expand(shape), spread.expand(shape))
    for step in plan.steps:
        fields[step.writes] = _bounded(_stepped(step, fields, blocks, biases, first))
    return fields


def _bounded(field: Field) -> Field:
    return Field(field.mean.clamp(-_LARGEST, _LARGEST), field.variance.clamp(0.0, _LARGEST**2))


def _stepped(
    step: Step, fields: Mapping[str, Field], blocks: Mapping[int, Tensor], biases: Mapping[str, Tensor], like: Tensor
) -> Field:
    if isinstance(step, LayerStep):
        return _layer(step, fields[step.reads], blocks[step.number], biases.get(step.writes))
    if isinstance(step, ShiftStep):
        field = fields[step.reads]
        return Field(field.mean + biases[step.writes][:, :, None], field.variance)
    if isinstance(step, PointwiseStep):
        return _through_function(step, fields[step.reads])
    read = [fields[name] for name in step.reads]
    if isinstance(step, JoinStep):
        return _product(read) if step.product else _sum(read)
    if isinstance(step, TakeStep):
        index = torch.from_numpy(step.index)
        return Field(torch.cat([f.mean for f in read], 1)[:, index], torch.cat([f.variance for f in read], 1)[:, index])
    assert isinstance(step, BlurStep)
    nothing = like.new_zeros(len(like), 1, len(BRIGHTNESS) + 1)
    return Field(nothing, torch.stack([f.variance.mean(1, keepdim=True) for f in read] or [nothing]).mean(0))


def _layer(step: LayerStep, field: Field, blocks: Tensor, bias: Tensor | None) -> Field:
    b, groups, _, q, _ = blocks.shape
    mean, variance = field.mean, field.variance
    if not step.link.aligned:
        shape = (b, groups * q, mean.shape[2])
        mean, variance = mean.new_zeros(shape), variance.mean(1, keepdim=True).expand(shape)
    mean = torch.einsum("bgpq,bgqr->bgpr", blocks.sum(4), mean.reshape(b, groups, q, -1)).flatten(1, 2)
    energy = blocks.square().sum(4)
    variance = torch.einsum("bgpq,bgqr->bgpr", energy, variance.reshape(b, groups, q, -1)).flatten(1, 2)
    return Field(mean if bias is None else mean + bias[:, :, None], variance)


def _through_function(step: PointwiseStep, field: Field) -> Field:
    known = ACTIVATIONS.get(step.name)
    if known is None:
        return field
    nodes = torch.from_numpy(_NODES)
    at = field.mean[..., None] + field.variance.clamp(min=0).sqrt()[..., None] * nodes
    with np.errstate(all="ignore"):
        values = known.formula(at.numpy(), known.parameter if step.parameter is None else step.parameter)
    carried = torch.from_numpy(np.nan_to_num(values, posinf=_LARGEST, neginf=-_LARGEST)).clamp(-_LARGEST, _LARGEST)
    weights = torch.from_numpy(_WEIGHTS / _WEIGHTS.sum())
    mean = carried @ weights
    return Field(mean, ((carried - mean[..., None]).square() @ weights).clamp(min=0))


def _sum(read: list[Field]) -> Field:
    mean, variance = read[0].mean, read[0].variance
    for field in read[1:]:
        mean, variance = mean + field.mean, variance + field.variance
    return Field(mean, variance)


def _product(read: list[Field]) -> Field:
    mean, variance = read[0].mean, read[0].variance
    for field in read[1:]:
        variance = variance * field.variance + variance * field.mean.square() + mean.square() * field.variance
        mean = mean * field.mean
    return Field(mean, variance)
