"""canonical/reduction/constants.py: which tensor takes up a constant that a layer's inputs bring. Knows graphs; no weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nfn_cli.canonical.reduction.reading import padded
from nfn_cli.graph.model import Graph, Network, Op


@dataclass(frozen=True)
class Absorber:
    """A vector to which the constant is added, times `sign`: a bias (+1), or the running mean of the norm behind (−1)."""

    tensor: str
    sign: int


def uses_of_tensors(networks: Sequence[Network], aliases: Mapping[str, str]) -> Counter[str]:
    """How many ops read each tensor; what several read cannot be rewritten for one."""
    return Counter(
        aliases.get(tensor, tensor)
        for network in networks
        for op in network.graph.ops
        for tensor in op.parameters.values()
    )


def absorber(op: Op, graph: Graph, uses: Mapping[str, int], aliases: Mapping[str, str]) -> Absorber | None:
    """None where padding makes a constant differ at the border, or there is no vector of the layer's own."""
    if padded(op):
        return None
    if "bias" in op.parameters:
        return _alone(op.parameters["bias"], 1, uses, aliases)
    readers = [other for other in graph.ops if op.output in other.inputs]
    if len(readers) == 1 and readers[0].kind == "batch_norm" and op.output not in graph.outputs:
        return _alone(readers[0].parameters["running_mean"], -1, uses, aliases)
    return None


def _alone(tensor: str, sign: int, uses: Mapping[str, int], aliases: Mapping[str, str]) -> Absorber | None:
    owner = aliases.get(tensor, tensor)
    return Absorber(owner, sign) if uses[owner] == 1 else None


def constants_left(op: Op, count: int) -> str:
    """What to say of constant units that feed a layer without taking them up."""
    units = f"{count} constant unit{'s' if count > 1 else ''} left in front of {op.parameters['weight']}"
    if padded(op):
        return f"{units}: with zero padding a constant is no bias"
    return f"{units}: no bias of its own takes them up"
