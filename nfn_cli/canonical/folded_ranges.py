"""canonical/folded_ranges.py: layers and the batch norms behind them seen as one, for ranges: what int8 sees after folding.

Between a layer and its batch norm the scale is settled by the statistics, so the layer's own range says nothing about the units
that the norm makes. That of the folded weight W·γ/√(var + ε) does, and it moves with the scale of γ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nfn_cli.canonical.norm_pairs import Array, NormPair, Tensors, factors, scaled
from nfn_cli.symmetry.solve import Action, Symmetry


class FoldedWeights(Mapping[str, Array]):
    """The tensors, with folded weights in place of those before a batch norm; each is computed when it is read."""

    def __init__(self, tensors: Tensors, pairs: Sequence[NormPair]) -> None:
        self._tensors, self._pairs = tensors, {pair.weight: pair for pair in pairs}

    def __getitem__(self, name: str) -> Array:
        array, pair = self._tensors[name], self._pairs.get(name)
        if pair is None:
            return array
        return scaled(array, pair, np.nan_to_num(factors(pair, self._tensors)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def with_folded_ranges(symmetry: Symmetry, pairs: Sequence[NormPair]) -> Symmetry:
    """The group as it acts on folded weights: their outputs carry the scales of γ, and the norms' own tensors are not there."""
    actions = dict(symmetry.actions)
    for pair in pairs:
        gain = _gain(symmetry, pair)
        if gain is None:
            continue
        kept = [a for a in actions.get(pair.weight, ()) if not (a.dim == pair.out_axis and a.exponent > 0)]
        made = replace(gain, tensor=pair.weight, dim=pair.out_axis, groups=pair.groups)
        actions[pair.weight] = (*kept, made)
        for role in ("weight", "running_mean", "running_var"):
            actions.pop(pair.roles.get(role, ""), None)
    return replace(symmetry, actions=actions)


def _gain(symmetry: Symmetry, pair: NormPair) -> Action | None:
    """What the group does to γ on behalf of the units that the norm makes."""
    found = symmetry.actions.get(pair.roles.get("weight", ""), ())
    return next((action for action in found if action.exponent == 1), None)
