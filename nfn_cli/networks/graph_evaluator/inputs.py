"""networks/graph_evaluator/inputs.py: whether a graph can be fed with inputs of a shape. Computes shapes only; no number."""

from __future__ import annotations

from math import prod

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator.registry import CODE
from nfn_cli.networks.graph_evaluator.run import name_of
from nfn_cli.networks.graph_evaluator.shapes import traced
from nfn_cli.printable import printable

_LARGEST_VALUE = 1 << 27  # entries of a value for one input


def takes_input(graph: Graph, shape: tuple[int, ...]) -> str | None:
    """Why the graph cannot be fed with inputs of this (C, H, W) or (I,) shape; None if it can.

    The reason is a sentence without its full stop. Axes that a graph leaves open take any length for which every op can
    be run; lengths that it states are those it was made for.
    """
    if len(graph.inputs) != 1:
        return f"it reads {len(graph.inputs)} inputs, not one"
    (entry,) = graph.inputs
    stated = entry.shape[1:]
    if (
        not entry.shape
        or len(stated) != len(shape)
        or any(s not in (None, n) for s, n in zip(stated, shape, strict=True))
    ):
        wanted = "×".join("any" if n is None else str(n) for n in stated)
        return f"it reads inputs of shape {wanted or '()'}, not {'×'.join(map(str, shape))}"
    try:
        answers = traced(graph, {entry.name: shape}, _refuse_large)
    except Refused as refusal:
        return f"inputs of shape {'×'.join(map(str, shape))} do not pass through {refusal.where}: {refusal.what}"
    return "its answer is not one for each input" if answers is None else None


def _refuse_large(op: Op, shape: tuple[int, ...]) -> None:
    if prod(shape) > _LARGEST_VALUE:
        made = "×".join(map(str, shape[1:]))
        raise Refused(f"{printable(op.kind)} makes a value of shape {made}", where=name_of(op), code=CODE)
