"""unit_graph/layer_statistics.py: fixed invariants of each layer, as many for a wide layer as for a narrow one. Knows torch.

Everything is unchanged by permutations of units and, where signs act, by signs; scales are gone in the balanced form.
Lists that grow with the width (norms, spectra) are read off at fixed quantiles. Everything is continuous in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np
import torch
from torch import Tensor

from nfn_cli.networks.unit_graph.activation_features import ACTIVATION_FEATURES, activation_features
from nfn_cli.networks.unit_graph.blocks import smooth_coefficients
from nfn_cli.networks.unit_graph.flow import Moments
from nfn_cli.networks.unit_graph.plan import BoolArray, LayerStep, Plan

_LEVELS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
# Far above float32 rounding of a balanced weight, so that a logarithm cannot blow rounding up to something visible.
SOFTENING = 1e-3
_RELATIVE_SOFTENING = 1e-5


def layer_statistics(
    plan: Plan,
    blocks: Mapping[int, Tensor],
    kernels: Mapping[int, tuple[int, ...]],
    biases: Mapping[int, Tensor],
    up: Mapping[str, Moments],
    down: Mapping[str, Tensor],
) -> Tensor:
    """(b, layers, statistics) in float64.

    Args:
        blocks: layer number -> (b, groups, p, q, positions), balanced.
        kernels: layer number -> shape of its kernel.
        biases: layer number -> (b, n), what flips with the slot.
        up, down: of flow.py.
    """
    at_outputs = torch.cat(
        [up[name].sums for name in plan.outputs if plan.values[name] is not None] or [_nothing(up)], 1
    )
    rows = []
    for step in plan.layers:
        weight, bias = blocks[step.number], biases[step.number]
        # whoever reads an unsigned bias may see its sign, whoever reads a signed one its size only
        visible = step.bias is None or not bool((step.bias.odd & _flipped(plan, step)).any())
        fan_in = weight.shape[3] * weight.shape[4]
        parts = [_distribution(weight.flatten(1) * fan_in**0.5, not step.weights.signed), _distribution(bias, visible)]
        parts += [_norms(weight), _spectra(weight), _kernel(weight, kernels[step.number])]
        parts += _crossing(up[step.writes].gram, up[step.reads].gram, down[step.writes], down[step.reads])
        parts.append(quantiles(torch.asinh(at_outputs[:, :, step.number + 1])))
        parts.append(_shape(step, weight, plan))
        rows.append(torch.cat(parts, 1))
    return torch.stack(rows, 1)


def network_statistics(plan: Plan, blocks: Mapping[int, Tensor], up: Mapping[str, Moments]) -> Tensor:
    """(b, statistics) of the whole network in float64: its size, and where the mean of the input ends."""
    b = len(blocks[0])
    sums = torch.cat(
        [up[name].sums[:, :, 0] for name in plan.outputs if plan.values[name] is not None] or [_nothing(up)[:, :, 0]], 1
    )
    entries = sum(w[0].numel() for w in blocks.values())
    size = torch.tensor([log(len(plan.layers)), log(1 + entries), log(1 + plan.joins)], dtype=torch.float64)
    return torch.cat([size.expand(b, 3), quantiles(torch.asinh(sums))], 1)


def _nothing(up: Mapping[str, Moments]) -> Tensor:
    like = next(iter(up.values())).sums
    return like.new_zeros(len(like), 1, like.shape[2])


def _flipped(plan: Plan, step: LayerStep) -> BoolArray:
    slots = plan.values[step.writes]
    assert slots is not None
    return np.asarray(slots.signs >= 0)


def quantiles(entries: Tensor) -> Tensor:
    """(b, n) -> (b, levels), between ranks interpolated."""
    ordered = entries.sort(1).values
    place = torch.tensor(_LEVELS, dtype=torch.float64) * (entries.shape[1] - 1)
    low = place.floor().long()
    part = (place - low).to(entries.dtype)
    high = (low + 1).clamp(max=entries.shape[1] - 1)
    return ordered[:, low] * (1 - part) + ordered[:, high] * part


def _distribution(entries: Tensor, signs_visible: bool) -> Tensor:
    """(b, entries) -> mean, deviation and quantiles of values (0 where signs act) and of magnitudes."""
    parts = []
    for values, seen in ((entries, signs_visible), (entries.abs(), True)):
        deviation = (values.square().mean(1, keepdim=True) - values.mean(1, keepdim=True).square()).clamp(min=0)
        row = torch.cat([values.mean(1, keepdim=True), (deviation + SOFTENING**2).sqrt(), quantiles(values)], 1)
        parts.append(row if seen else torch.zeros_like(row))
    return torch.cat(parts, 1)


def _norms(weight: Tensor) -> Tensor:
    """Log norms of what each slot is fed by, and of what each slot feeds."""
    energy = weight.square()
    return torch.cat(
        [quantiles((energy.sum(axes).flatten(1).sqrt() + SOFTENING).log()) for axes in ((3, 4), (2, 4))], 1
    )


def _spectra(weight: Tensor) -> Tensor:
    """Log singular values of the blocks as (p, q·positions) and as (q, p·positions)."""
    rows = torch.einsum("bgpqk,bgrqk->bgpr", weight, weight)
    columns = torch.einsum("bgpqk,bgprk->bgqr", weight, weight)
    return torch.cat([_log_roots(rows), _log_roots(columns)], 1)


def _log_roots(gram: Tensor) -> Tensor:
    """(b, …, n, n) positive semidefinite -> quantiles of the logs of the roots of its eigenvalues.

    Softened relative to the mean eigenvalue: the root of an eigenvalue that is 0 up to rounding is anything up to
    1e-8, and its logarithm must not see that.
    """
    values = torch.linalg.eigvalsh(gram).clamp(min=0).flatten(1)
    softened = values + _RELATIVE_SOFTENING * values.mean(1, keepdim=True) + SOFTENING**4
    return quantiles(softened.log() / 2)


def _kernel(weight: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Energies and products of the smooth coefficients: over all edges, then with every slot counted alike."""
    smooth = smooth_coefficients(weight, kernel)
    first, second = torch.triu_indices(smooth.shape[4], smooth.shape[4])
    energy = weight.square().sum((3, 4), keepdim=True)
    level = energy.mean((1, 2), keepdim=True)
    alike = smooth / (energy + _RELATIVE_SOFTENING * level + SOFTENING**4).sqrt()
    parts = []
    for entries, total in ((smooth, level), (alike, torch.ones_like(level))):
        count = weight.shape[1] * weight.shape[2]
        gram = torch.einsum("bgpqc,bgpqd->bcd", entries, entries) / count
        parts.append(gram[:, first, second] / (total[:, :, 0, 0, 0] + SOFTENING**4))
    return torch.cat(parts, 1)


def _crossing(above: Tensor, below: Tensor, out_above: Tensor, out_below: Tensor) -> list[Tensor]:
    """Spectra of all paths from the input to the layer and from the layer to the outputs, and how the two meet."""
    parts = [_log_roots(above), _log_roots(out_below)]
    if above.shape == out_above.shape:
        meeting = (above * out_above).sum((1, 2)).clamp(min=0)
        at = torch.diagonal(above, dim1=1, dim2=2) * torch.diagonal(out_above, dim1=1, dim2=2)
    else:
        meeting, at = above.new_zeros(len(above)), above.new_zeros(len(above), 1)
    parts.append((meeting[:, None] + SOFTENING**2).log())
    parts.append(quantiles((at.clamp(min=0) + SOFTENING**2).log()))
    return parts


def _shape(step: LayerStep, weight: Tensor, plan: Plan) -> Tensor:
    """What the graph says of the layer: sizes, stride, kind, place."""
    _, groups, p, q, positions = weight.shape
    place = step.number / max(1, len(plan.layers) - 1)
    facts = [log(groups * p), log(groups * q), log(positions), log(step.stride), float(groups > 1), place]
    facts += [float(step.weights.in_axis < 0), float(step.bias is not None), float(step.weights.positions > 1)]
    row = torch.cat([torch.tensor(facts, dtype=torch.float64), *_functions(plan.activations[step.number])])
    return row.expand(len(weight), len(row))


def _functions(names: tuple[str, ...]) -> list[Tensor]:
    """What follows the layer: the values of its functions, summed up."""
    nothing = torch.zeros(ACTIVATION_FEATURES, dtype=torch.float64)
    return [sum((activation_features(name) for name in names), nothing)]
