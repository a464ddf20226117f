"""networks/inr_phasors.py: a weight-space model of networks of sines, exactly blind to D∞ ≀ S_n. Torch; no graph, no file.

A hidden unit with incoming weights w and bias b becomes a vector φ = sin(b)·E(w) + cos(b)·O(w) with E even and O odd. A
change of sign or a half turn of the phase changes φ exactly as it changes the unit's outgoing weights, so the sum of
outgoing weights times φ over the units of a layer does not change, and is what the next layer's units read in the place
of w. Here E = g·cos(Aw) and O = g·sin(Aw) with a learned map A and a learned even g that damps high frequencies, so that
φ = g(w)·sin(Aw + b); between layers, channels of features are mixed by learned maps.

For particular parameters (g = 1, nothing mixed) a channel is the network's value at a point; training begins near there,
and blurs, bends and mixes what it finds useful. From weights alone, but no other kind of knowledge than function access.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nfn_cli.networks.inr_pixels import Pixels, standardized
from nfn_cli.networks.inr_sines import Sines
from nfn_cli.networks.mlp import mlp

# Between the pixels that it was fitted to, an INR shows noise: what reads there must not move far at once.
_SLOWLY = 0.03


class PhasorNet(nn.Module):
    """Networks of sines of a plane -> `outputs` numbers.

    Args:
        layers: layers of sines; any widths.
        channels: of the image.
        side: side² channels of features, which begin on a grid of so many points in [−1, 1]².
        rank: of what is mixed between channels of features at each further layer.
        head_width, head_depth, dropout: of the MLP at the end.
    """

    grid: Tensor

    def __init__(
        self,
        layers: int,
        channels: int,
        outputs: int,
        side: int = 28,
        rank: int = 32,
        head_width: int = 384,
        head_depth: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        features = side * side
        along = torch.linspace(-1, 1, side)
        grid = torch.cartesian_prod(along, along).T
        self.register_buffer("grid", grid, persistent=False)
        self.bend = nn.Parameter(torch.zeros(2, features))
        self.blur = nn.Parameter(torch.full((features,), 0.02))
        self.into = nn.ParameterList(nn.Parameter(torch.randn(features, rank) * 0.05) for _ in range(layers - 1))
        self.out_of = nn.ParameterList(nn.Parameter(torch.zeros(rank, features)) for _ in range(layers - 1))
        self.norm = nn.BatchNorm1d(channels * features)
        self.head = mlp(channels * features, head_width, head_depth, outputs, dropout=dropout)

    def forward_prepared(self, prepared: Sines | Pixels) -> Tensor:
        """(b, outputs). Pictures of side × side pixels are read as features, for the head to learn from before."""
        features = prepared.values.flatten(2) if isinstance(prepared, Pixels) else self.features(prepared)
        return torch.as_tensor(self.head(self.norm(standardized(features).flatten(1))))

    def features(self, sines: Sines) -> Tensor:
        """(b, channels, features), the same for every member of an orbit."""
        first = sines.weights[0]
        damping = 1 / (1 + first.square().sum(2, keepdim=True) * (_SLOWLY * self.blur).square())
        unit = torch.sin(first @ (self.grid + _SLOWLY * self.bend) + sines.biases[0][..., None]) * damping
        for layer, (into, out_of) in enumerate(zip(self.into, self.out_of, strict=True), start=1):
            read = sines.weights[layer] @ unit
            unit = torch.sin(read + read @ into @ out_of + sines.biases[layer][..., None])
        return sines.weights[-1] @ unit

    def fit_normalization(self, prepared: Sines | Pixels) -> None:
        """Nothing to measure beforehand."""
