"""predictors/kinds/registry.py: kinds by name. A new kind is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from nfn_cli.predictors.kinds.chain import MonomialEncoder, PermutationEncoder, StatNetEncoder
from nfn_cli.predictors.kinds.kind import Encoder
from nfn_cli.predictors.kinds.probe import ProbeEncoder
from nfn_cli.predictors.kinds.unit_graph import UnitGraphEncoder
from nfn_cli.predictors.takes import Takes

Make = Callable[[Takes, Mapping[str, Any], Mapping[str, Tensor]], Encoder]

# name on the card -> (what it takes, settings of the card, kept tensors) -> encoder
KINDS: Mapping[str, Make] = MappingProxyType(
    {
        "monomial-nfn": lambda takes, settings, tensors: MonomialEncoder(takes, **settings),
        "stat-net": lambda takes, settings, tensors: StatNetEncoder(takes),
        "np": lambda takes, settings, tensors: PermutationEncoder(takes),
        "hnp": lambda takes, settings, tensors: PermutationEncoder(takes),
        "probe": lambda takes, settings, tensors: ProbeEncoder(takes, tensors, **settings),
        "unit-graph": lambda takes, settings, tensors: UnitGraphEncoder(takes, tensors=tensors, **settings),
    }
)
