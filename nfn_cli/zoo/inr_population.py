"""zoo/inr_population.py: how the INRs of a zoo are fitted: drawn, to be like the fits of many people, or alike. No torch.

Networks that are fitted at once (a group) share ω, coordinates and the betas of Adam; everything else is drawn for each.
Alike are the INRs of a published data set: one recipe, and nothing differs but the image and the numbers at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.zoo.sine_network import INITIALIZATIONS, SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]

RANGES = ((0.0, 1.0), (-1.0, 1.0))  # what pixel values 0 and 255 become
STANDARDIZED = 0.15  # share of networks whose pixels have mean 0 and variance 1 over the data set
RATES = (1e-3, 2e-2)
PSNRS = (20.0, 60.0)  # dB at which fits stop, if they get there; more often at the lower end
USUAL_OMEGA, OMEGAS = 30.0, (10.0, 50.0)
UNUSUAL = 0.2  # share of groups with another ω than the usual one
BETAS = ((0.9, 0.999), (0.9, 0.99), (0.8, 0.95))


ALIKE_RATE = 5e-3  # of fits that are alike; their pixels go from −1 to 1, as those of Zhou et al. 2023


@dataclass(frozen=True)
class FitDraw:
    """Attributes: per group: network, centred (coordinates of pixel centres, not −1 … 1 inclusive), betas; per network (m,):
    initialization, rates, steps (at most), psnr (at which to stop; NaN: nowhere), low, high (of pixel values 0 and 255)."""

    network: SineNetwork
    centred: bool
    betas: tuple[float, float]
    initialization: Array
    rates: Array
    steps: Array
    psnr: Array
    low: Array
    high: Array


def draw_fits(
    widths: tuple[int, ...],
    omega: float | None,
    most_steps: int,
    standard: tuple[float, float],
    size: int,
    generator: np.random.Generator,
) -> FitDraw:
    """Settings of a group.

    Args:
        omega: of every layer; None draws it.
        standard: low and high of pixels standardized over the data set.
    """
    drawn = float(np.round(generator.uniform(*OMEGAS), 1)) if generator.random() < UNUSUAL else USUAL_OMEGA
    network = SineNetwork(widths, (drawn if omega is None else omega,) * (len(widths) - 2))
    which = generator.integers(len(RANGES), size=size)
    ranges = np.array(RANGES)[which]
    ranges[generator.random(size) < STANDARDIZED] = standard
    return FitDraw(
        network=network,
        centred=bool(generator.random() < 0.3),
        betas=BETAS[int(generator.integers(len(BETAS)))],
        initialization=generator.choice(INITIALIZATIONS, size, p=(0.6, 0.1, 0.1, 0.1, 0.1)),
        rates=np.exp(generator.uniform(np.log(RATES[0]), np.log(RATES[1]), size)),
        steps=np.full(size, most_steps),
        psnr=PSNRS[0] + (PSNRS[1] - PSNRS[0]) * generator.random(size) ** 1.5,
        low=ranges[:, 0],
        high=ranges[:, 1],
    )


def alike_fits(widths: tuple[int, ...], omega: float | None, steps: int, size: int) -> FitDraw:
    """Settings of a group of which all networks are fitted in the same way: SIREN's, for all the steps."""
    low, high = RANGES[1]
    return FitDraw(
        network=SineNetwork(widths, (USUAL_OMEGA if omega is None else omega,) * (len(widths) - 2)),
        centred=False,
        betas=BETAS[0],
        initialization=np.full(size, "siren"),
        rates=np.full(size, ALIKE_RATE),
        steps=np.full(size, steps),
        psnr=np.full(size, np.nan),
        low=np.full(size, low),
        high=np.full(size, high),
    )
