"""symmetry/check.py: does the function stay? Both sets of weights are run in float64 on random inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.graph.reference import evaluate, random_inputs

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


def outputs(
    network: Network, tensors: Tensors, seed: int, batch: int = 4
) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """The network's float64 outputs on seeded standard normal inputs."""
    try:
        with np.errstate(all="ignore"):  # what is not finite shows in the outputs
            return list(evaluate(network.graph, tensors, random_inputs(network.graph, seed, batch)))
    except (ValueError, IndexError):
        # shapes that only this run brings to light (a fixed input size, a reshape that was misread)
        raise Refused("the network could not be run on random inputs", code="not-evaluable") from None


def relative_change(
    before: Sequence[np.ndarray[Any, np.dtype[np.float64]]], after: Sequence[np.ndarray[Any, np.dtype[np.float64]]]
) -> float:
    """Largest change of an output entry over the largest entry of that output; infinite when one is not finite."""
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        change = float(np.max(np.abs(new - old), initial=0.0))
        size = float(np.max(np.abs(old), initial=0.0))
        if not np.isfinite(change) or not np.isfinite(size):
            return float("inf")
        worst = max(worst, change / size if size else change)
    return worst
