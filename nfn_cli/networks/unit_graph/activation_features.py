"""unit_graph/activation_features.py: a pointwise function as a few of its values, so that an unseen one is not a new symbol."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nfn_cli.graph.activations import ACTIVATIONS

_AT = (-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0)
ACTIVATION_FEATURES = len(_AT)


@lru_cache(maxsize=64)
def activation_features(name: str) -> Tensor:
    """(ACTIVATION_FEATURES,) float64: values of the function between −4 and 4, tamed; zeros where it is not known.

    They describe the function, not a network: a parameter of it (a slope, ω) is taken at its default.
    """
    known = ACTIVATIONS.get(name)
    if known is None:
        return torch.zeros(ACTIVATION_FEATURES, dtype=torch.float64)
    with np.errstate(all="ignore"):
        values = np.nan_to_num(known.formula(np.array(_AT), known.parameter), posinf=0.0, neginf=0.0)
    return torch.from_numpy(np.arcsinh(values))
