"""A narrower network: some units cut out of every tensor that touches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nfn_cli.canonical.reduction.apply import narrowed, shrunk
from nfn_cli.canonical.reduction.layout import find_layout
from nfn_cli.graph.model import Network

from ..symmetry.networks import Tensors


def without_units(network: Network, tensors: Tensors, cut: Mapping[str, Sequence[int]]) -> tuple[Network, Tensors]:
    """`cut`: tensor -> rows (axis 0) whose units go. The function changes."""
    layout = find_layout([network], {})
    keep = np.ones(len(layout.fixed), bool)
    for tensor, rows in cut.items():
        place = next(place for place in layout.places if place.tensor == tensor and place.dim == 0)
        keep[place.units[list(rows)]] = False
    small = {**tensors, **shrunk(layout, tensors, {}, keep)}
    return narrowed(network, layout, 0, {name: array.shape for name, array in small.items()}, keep), small
