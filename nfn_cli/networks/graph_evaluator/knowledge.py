"""networks/graph_evaluator/knowledge.py: whether a graph says all that its network computes. Reads attributes; no torch, no number.

A front end that has tensor names and shapes only leaves out, or puts in on the safe side, what names cannot tell. That is
enough for a symmetry, which holds for every reading; it is not enough to run the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator.registry import EVALUATORS
from nfn_cli.printable import printable


def unknown_in(graph: Graph) -> tuple[str, ...]:
    """Why the function of the graph is not fully known, in the order of its ops; empty if it is.

    Each reason is a sentence without its full stop, such as "the stride of conv2 is not in the file".
    """
    layers = _layer_names(graph)
    reasons = (reason for op in graph.ops for reason in _unknown(op, layers[op.output]))
    return tuple(dict.fromkeys(reasons))


def _layer_names(graph: Graph) -> dict[str, str]:
    """For every value the layer it is or comes from, as a user knows it: "conv2" for an op with the weight conv2.weight."""
    names: dict[str, str] = {entry.name: "the input" for entry in graph.inputs}
    for op in graph.ops:
        own = next((op.parameters[role] for role in ("weight", "running_var", "value") if role in op.parameters), None)
        before = next((names[name] for name in op.inputs if name in names), "the input")
        stem, _, last = (own or "").rpartition(".")
        names[op.output] = before if own is None else printable(stem if stem and "weight" in last else own)
    return names


def _unknown(op: Op, layer: str) -> list[str]:
    if op.kind not in EVALUATORS:
        reason = op.attributes.get("reason") if op.kind == "opaque" else None
        return [printable(reason) if reason else f"what {printable(op.kind)} behind {layer} computes is not known"]
    if op.attributes.get("assumed", False):
        function = str(op.attributes.get("function", ""))
        if function in ACTIVATIONS and ACTIVATIONS[function].frequency and "omega" not in op.attributes:
            return [f"the frequency of {function} behind {layer} is not in the file"]
        return [f"whether {_SAID.get(op.kind, op.kind)} stands behind {layer} is not in the file"]
    return [said.format(layer=layer) for unknown, said in _OPEN.get(op.kind, ()) if unknown(op)]


def _lacks(name: str) -> Callable[[Op], bool]:
    return lambda op: name not in op.attributes


_SAID: Mapping[str, str] = MappingProxyType(
    {"max_pool": "max pooling", "add": "a sum with the block's input", "pointwise": "an activation"}
)
_NO_EPS = "the ε of {layer} is not in the file"
_OPEN: Mapping[str, tuple[tuple[Callable[[Op], bool], str], ...]] = MappingProxyType(
    {
        "conv": (
            (_lacks("stride"), "the stride of {layer} is not in the file"),
            (
                lambda op: "stride" not in op.attributes or "padding" not in op.attributes,
                "the padding of {layer} is not in the file",
            ),
        ),
        "batch_norm": (
            (
                lambda op: "running_mean" not in op.parameters or "running_var" not in op.parameters,
                "{layer} has no running statistics",
            ),
            (lambda op: "eps" not in op.attributes or op.attributes.get("eps_known") is False, _NO_EPS),
        ),
        "layer_norm": ((_lacks("eps"), _NO_EPS),),
        "pool": (
            (
                lambda op: op.attributes.get("statistic") not in ("average", "max"),
                "how positions are pooled behind {layer} is not in the file",
            ),
        ),
        "pointwise": (
            (
                lambda op: (
                    op.attributes["function"] == "leaky_relu" and "slope" not in op.attributes and not op.parameters
                ),
                "the slope of leaky_relu behind {layer} is not in the file",
            ),
        ),
    }
)
