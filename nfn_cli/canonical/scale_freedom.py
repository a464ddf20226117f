"""canonical/scale_freedom.py: where a function lets no scale through, and whose units therefore keep their ranges. Graphs only."""

from __future__ import annotations

from collections.abc import Sequence

from nfn_cli.canonical.batch_norm_folding import listed
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.printable import printable


def without_scale_freedom(networks: Sequence[Network]) -> tuple[str, ...]:
    """One line for each function (relu6, silu, …) between layers that is not homogeneous, with the layers before it."""
    layers: dict[str, list[str]] = {}
    for network in networks:
        for op, layer in _blocking(network.graph):
            name = "clipping" if op.kind == "clip" else str(op.attributes["function"])
            layers.setdefault(name, []).append(layer)
    return tuple(
        f"{printable(function)} has no scale freedom: the units of {listed(list(dict.fromkeys(names)))} keep their ranges"
        for function, names in layers.items()
    )


def _blocking(graph: Graph) -> list[tuple[Op, str]]:
    """Functions that let no scale through and that later layers depend on, each with the layer whose units it reads."""
    layer_of: dict[str, str | None] = {entry.name: None for entry in graph.inputs}
    used = _read_by_layers(graph)
    found = []
    for op in graph.ops:
        before = next((layer_of[name] for name in op.inputs if layer_of[name] is not None), None)
        own = op.parameters.get("weight") if op.kind in ("linear", "conv") else None
        layer_of[op.output] = before if own is None else printable(own.rpartition(".")[0] or own)
        if before is not None and op.output in used and _blocks(op):
            found.append((op, before))
    return found


def _blocks(op: Op) -> bool:
    if op.kind != "pointwise":
        return op.kind == "clip"
    activation = ACTIVATIONS.get(op.attributes["function"])
    return activation is None or activation.degree is None


def _read_by_layers(graph: Graph) -> set[str]:
    """Values that some layer with weights depends on."""
    used: set[str] = set()
    for op in reversed(graph.ops):
        if op.output in used or op.kind in ("linear", "conv"):
            used.update(op.inputs)
    return used
