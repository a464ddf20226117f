"""networks/balance.py: the balanced form (DESIGN 2.4) of a batch of chains, in float64. Knows torch tensors; no file.

The balanced member of a positive-scale orbit has the least Σ‖W‖² + Σ‖b‖². In the log-scales u of the hidden units that
sum is f(u) = Σ exp(2 (u_p − u_q)) ‖W[p, q]‖² + Σ exp(2 u_p) b[p]², strictly convex once dead units are gone, so its
minimum is one point of the orbit and depends on the weights smoothly. Sweeps of closed-form steps come close from
anywhere; Newton steps then finish to rounding error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nfn_cli.networks.weight_features import WeightFeatures


def without_dead_units(features: WeightFeatures) -> WeightFeatures:
    """Zeroes what a dead unit touches: a unit that nothing feeds (weights and bias 0) or that feeds nothing.

    The function stays as it is wherever the activation maps 0 to 0, and the balanced form becomes unique: such a unit
    would otherwise be scaled towards 0 or infinity for ever. Repeated, because a neighbour may die with it.
    """
    feeds = [(w != 0).any(1) for w in features.weights]  # (b, p, q): which units touch
    biased = [(b != 0).any(1) for b in features.biases]  # (b, p)
    alive = [torch.ones_like(b) for b in biased[:-1]]
    for _ in range(2 * len(feeds)):
        before = alive
        for i in range(len(alive)):
            fed = feeds[i].any(2) | biased[i]
            alive = [*alive[:i], alive[i] & fed & feeds[i + 1].any(1), *alive[i + 1 :]]
            feeds[i], biased[i] = feeds[i] & alive[i][:, :, None], biased[i] & alive[i]
            feeds[i + 1] = feeds[i + 1] & alive[i][:, None, :]
        if all(torch.equal(x, y) for x, y in zip(before, alive, strict=True)):
            break
    if all(bool(mask.all()) for mask in alive):
        return features
    weights, biases = list(features.weights), list(features.biases)
    for i, mask in enumerate(alive):
        kept = mask.to(weights[i].dtype)
        weights[i] = weights[i] * kept[:, None, :, None]
        biases[i] = biases[i] * kept[:, None, :]
        weights[i + 1] = weights[i + 1] * kept[:, None, None, :]
    return WeightFeatures(tuple(weights), tuple(biases))


def balanced_chain(features: WeightFeatures, sweeps: int = 12, newton_steps: int = 30) -> WeightFeatures:
    """Batch of raw chains -> the balanced members of their positive-scale orbits, in float64.

    Biases count as incoming; scales are one positive number per hidden unit. Exact on the orbit up to rounding:
    chains that differ by scales from 1e-3 to 1e3 agree to about 1e-13.
    """
    chain = without_dead_units(features.map(lambda t: t.double()))
    hidden = [w.shape[2] for w in chain.weights[:-1]]
    if not hidden:
        return chain
    with torch.no_grad():
        energies = [w.square().sum(1) for w in chain.weights]
        bias_energies = [b.square().sum(1) for b in chain.biases]
        logs = _sweep(energies, bias_energies, [torch.zeros_like(b) for b in bias_energies[:-1]], sweeps)
        logs = _newton(energies, bias_energies, logs, newton_steps)
    return scaled(chain, logs)


def scaled(features: WeightFeatures, log_scales: list[Tensor]) -> WeightFeatures:
    """Acts with exp(log_scales[i]) (b, n_i) on the hidden units: incoming side times, outgoing side divided."""
    ends = [None, *log_scales, None]
    weights, biases = [], []
    for i, (w, b) in enumerate(zip(features.weights, features.biases, strict=True)):
        below, above = ends[i], ends[i + 1]
        if above is not None:
            w, b = w * above.exp()[:, None, :, None], b * above.exp()[:, None, :]
        weights.append(w if below is None else w * (-below).exp()[:, None, None, :])
        biases.append(b)
    return WeightFeatures(tuple(weights), tuple(biases))


def _moved(
    energies: list[Tensor], bias_energies: list[Tensor], logs: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Energies (b, p, q) and (b, p) after scaling by exp(logs)."""
    ends = [None, *logs, None]
    weights, biases = [], []
    for i, (w, b) in enumerate(zip(energies, bias_energies, strict=True)):
        below, above = ends[i], ends[i + 1]
        if above is not None:
            w, b = w * (2 * above).exp()[:, :, None], b * (2 * above).exp()
        weights.append(w if below is None else w * (-2 * below).exp()[:, None, :])
        biases.append(b)
    return weights, biases


def _sweep(energies: list[Tensor], bias_energies: list[Tensor], logs: list[Tensor], sweeps: int) -> list[Tensor]:
    """Closed-form steps unit set by unit set, on energies that are kept moved; log-scales are summed up beside them."""
    logs, weights, biases = list(logs), *_moved(energies, bias_energies, logs)
    for _ in range(sweeps):
        for i in range(len(logs)):
            incoming, outgoing = weights[i].sum(2) + biases[i], weights[i + 1].sum(1)
            alive = (incoming > 0) & (outgoing > 0)
            ratio = torch.where(alive, outgoing, torch.ones_like(outgoing)).log()
            ratio = ratio - torch.where(alive, incoming, torch.ones_like(incoming)).log()
            logs[i] = logs[i] + ratio / 4
            factor = (ratio / 2).exp()  # of the energies: the square of the scale
            weights[i], biases[i] = weights[i] * factor[:, :, None], biases[i] * factor
            weights[i + 1] = weights[i + 1] / factor[:, None, :]
    return logs


def _newton(energies: list[Tensor], bias_energies: list[Tensor], logs: list[Tensor], steps: int) -> list[Tensor]:
    """Newton on the log-scales, stopped where the largest step is rounding error; steps are clipped to stay safe."""
    sizes = [log.shape[1] for log in logs]
    offsets = [sum(sizes[:i]) for i in range(len(sizes))]
    for _ in range(steps):
        weights, biases = _moved(energies, bias_energies, logs)
        incoming = [weights[i].sum(2) + biases[i] for i in range(len(logs))]
        outgoing = [weights[i + 1].sum(1) for i in range(len(logs))]
        total = torch.cat([a + b for a, b in zip(incoming, outgoing, strict=True)], 1)
        gradient = torch.cat([a - b for a, b in zip(incoming, outgoing, strict=True)], 1)
        dead = total == 0
        hessian = torch.diag_embed(torch.where(dead, torch.ones_like(total), total))
        for i in range(1, len(logs)):
            above, below = (
                slice(offsets[i], offsets[i] + sizes[i]),
                slice(offsets[i - 1], offsets[i - 1] + sizes[i - 1]),
            )
            hessian[:, above, below] = -weights[i]
            hessian[:, below, above] = -weights[i].transpose(1, 2)
        # Jacobi scaling: units differ by many orders of magnitude, their ratios to the diagonal do not.
        root = torch.where(dead, torch.ones_like(total), total).sqrt()
        system = hessian / root[:, :, None] / root[:, None, :]
        step = torch.linalg.solve(system, (-gradient / 2 / root)[..., None])[..., 0] / root
        step = step * (1.0 / step.abs().amax(1, keepdim=True).clamp(min=1.0))
        logs = [log + part for log, part in zip(logs, step.split(sizes, 1), strict=True)]
        if float(step.abs().max()) < 1e-14:
            break
    return logs
