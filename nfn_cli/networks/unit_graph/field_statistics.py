"""unit_graph/field_statistics.py: mean fields as a fixed number of invariants for each layer and each network. Knows torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nfn_cli.networks.unit_graph.layer_statistics import SOFTENING, quantiles
from nfn_cli.networks.unit_graph.mean_field import Field
from nfn_cli.networks.unit_graph.plan import LayerStep, Plan


def layer_fields(plan: Plan, fields: Mapping[str, Field]) -> Tensor:
    """(b, layers, statistics) in float64."""
    return torch.stack([_field(step, fields[step.writes]) for step in plan.layers], 1)


def network_fields(plan: Plan, fields: Mapping[str, Field]) -> Tensor:
    """(b, statistics) in float64: what the outputs say of inputs without data."""
    return torch.cat(_answers(plan, fields), 1)


def _field(step: LayerStep, field: Field) -> Tensor:
    """What inputs without data do to the slots: their level, how far brightness and noise move them, what is left flat."""
    bright, noise = field.mean[:, :, :-1], field.variance[:, :, -1]
    level = bright.mean(2).abs()
    if step.bias is not None:  # a phase count moves the level
        level = level * torch.from_numpy(step.bias.phase == 0)
    spread = (bright - bright.mean(2, keepdim=True)).square().mean(2)
    parts = [torch.asinh(level), (spread + SOFTENING).log() / 2, (noise + SOFTENING).log() / 2]
    parts.append(torch.asinh(level / (spread + noise + SOFTENING).sqrt()))
    return torch.cat([quantiles(part) for part in parts], 1)


def _answers(plan: Plan, fields: Mapping[str, Field]) -> list[Tensor]:
    """What the outputs say of each brightness, beside their mean over the outputs: quantiles, and how far noise moves them."""
    bright = torch.cat([fields[name].mean for name in plan.outputs], 1)
    noise = torch.cat([fields[name].variance[:, :, -1] for name in plan.outputs], 1)
    apart = torch.asinh(bright - bright.mean(1, keepdim=True))
    parts = [quantiles(apart[:, :, column]) for column in range(apart.shape[2])]
    changing = bright[:, :, :-1] - bright[:, :, :-1].mean(2, keepdim=True)
    parts.append(quantiles((changing.square().mean(2) + SOFTENING).log() / 2))
    parts.append(quantiles((noise + SOFTENING).log() / 2))
    return parts
