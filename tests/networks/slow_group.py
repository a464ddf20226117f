"""Oracles: random chains, dense monomial matrices acting on them, and a brute-force table of equivariant terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nfn_cli.networks.weight_features import WeightFeatures


@dataclass(frozen=True)
class Chain:
    """Random depth, widths and kernels."""

    widths: tuple[int, ...]
    positions: tuple[int, ...]


def random_chain(seed: int, depth: int | None = None) -> Chain:
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 6)) if depth is None else depth
    convolutions = int(rng.integers(0, depth + 1))
    positions = [int(rng.choice([1, 4, 9])) for _ in range(convolutions)]
    positions += [int(rng.choice([1, 4])) if i == 0 and convolutions else 1 for i in range(depth - convolutions)]
    return Chain(tuple(int(n) for n in rng.integers(1, 7, size=depth + 1)), tuple(positions))


def random_features(chain: Chain, seed: int, channels: int | None = None, batch: int = 2) -> WeightFeatures:
    """Normal entries in float64; `channels=None` gives raw weights (kernel positions are channels)."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape))

    depth = len(chain.positions)
    return WeightFeatures(
        tuple(draw(batch, channels or chain.positions[i], chain.widths[i + 1], chain.widths[i]) for i in range(depth)),
        tuple(draw(batch, channels or 1, chain.widths[i + 1]) for i in range(depth)),
    )


def random_monomials(chain: Chain, group: str, seed: int, largest: float = 1e3) -> list[torch.Tensor]:
    """One dense monomial matrix per axis of units: the identity at both ends, unless the group moves these, too."""
    rng = np.random.default_rng(seed)
    matrices = []
    for axis, n in enumerate(chain.widths):
        if axis in (0, len(chain.widths) - 1) and group != "neuron_permutation":
            matrices.append(np.eye(n))
            continue
        diagonal = np.ones(n)
        if group == "positive_scale":
            diagonal = np.exp(rng.uniform(-np.log(largest), np.log(largest), n))
        elif group == "sign":
            diagonal = rng.choice([-1.0, 1.0], n)
        matrices.append(np.diag(diagonal) @ np.eye(n)[rng.permutation(n)])
    return [torch.from_numpy(m) for m in matrices]


def act_slowly(features: WeightFeatures, monomials: list[torch.Tensor]) -> WeightFeatures:
    """W -> G W H⁻¹, b -> G b, one dense matrix product per channel."""
    weights, biases = [], []
    for i, (w, b) in enumerate(zip(features.weights, features.biases, strict=True)):
        outgoing, inverse = monomials[i + 1], torch.linalg.inv(monomials[i])
        moved = torch.empty_like(w)
        shifted = torch.empty_like(b)
        for row in range(w.shape[0]):
            for channel in range(w.shape[1]):
                moved[row, channel] = outgoing @ w[row, channel] @ inverse
            for channel in range(b.shape[1]):
                shifted[row, channel] = outgoing @ b[row, channel]
        weights.append(moved)
        biases.append(shifted)
    return WeightFeatures(tuple(weights), tuple(biases))


def residual(a: WeightFeatures, b: WeightFeatures) -> float:
    """Largest difference, each entry relative to its own size (scales spread entries over many decades) or to 1."""
    worst = 0.0
    for x, y in zip((*a.weights, *a.biases), (*b.weights, *b.biases), strict=True):
        scale = torch.maximum(x.abs(), y.abs()).clamp(min=1e-300)
        # entries that cancel are judged by their own row's size in the channel direction
        scale = torch.maximum(scale, 1e-3 * scale.amax(1, keepdim=True))
        worst = max(worst, float(((x - y).abs() / scale).max().detach()))
    return worst
