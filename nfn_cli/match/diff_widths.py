"""match/diff_widths.py: networks of one architecture up to their widths, and the network wide enough for both. Shapes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.match.pairing import partner_of

Choice = Callable[[Any, Any], Any]


def lent_widths(networks: Sequence[Network], lender: Sequence[Network]) -> tuple[Network, ...]:
    """The networks with the lengths of the lender's tensors, op by op; what else differs still does.

    They are for finding out whether nothing but widths differs (`match.pairing.partners`).
    """
    return _merged(networks, lender, lambda mine, lent: lent)


def joined_widths(one: Sequence[Network], other: Sequence[Network]) -> tuple[Network, ...]:
    """The first networks, every axis as long as the longer one of both."""
    return _merged(one, other, max)


def _merged(networks: Sequence[Network], others: Sequence[Network], choice: Choice) -> tuple[Network, ...]:
    if len(networks) != len(others):
        return tuple(networks)
    return tuple(
        replace(mine, graph=_merged_graph(mine.graph, other.graph, choice))
        for mine, other in zip(networks, others, strict=True)
    )


def _merged_graph(mine: Graph, other: Graph, choice: Choice) -> Graph:
    shapes, ops = dict(mine.parameter_shapes), list(mine.ops)
    for number, (one, two) in enumerate(zip(mine.ops, other.ops, strict=False)):
        if one.kind != two.kind:
            break
        chosen = {
            key: _chosen(one.attributes[key], two.attributes[key], choice)
            for key in one.attributes
            if key in two.attributes and _is_width(one, two, key, mine, other)
        }
        if chosen:
            ops[number] = replace(one, attributes={**one.attributes, **chosen})
        for role, name in one.parameters.items():
            here, there = mine.parameter_shapes[name], other.parameter_shapes.get(two.parameters.get(role, ""))
            if there is not None and len(here) == len(there):
                there = partner_of(one, two, role, len(here)).shape(there)
                shapes[name] = tuple(choice(a, b) for a, b in zip(here, there, strict=True))
    return replace(mine, ops=tuple(ops), parameter_shapes=shapes)


def _is_width(one: Op, two: Op, key: str, mine: Graph, other: Graph) -> bool:
    """Whether the attribute only says how wide a value is."""
    if key == "shape":
        return len(one.attributes[key]) == len(two.attributes[key])
    if key == "groups":
        return _depthwise(one, mine.parameter_shapes) and _depthwise(two, other.parameter_shapes)
    return one.kind == "slice" and key in ("start", "stop") and one.attributes.get("axis") == two.attributes.get("axis")


def _depthwise(op: Op, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """One input channel a group: then the number of groups is a number of channels."""
    axis, weight = op.attributes.get("in_axis", 1), op.parameters.get("weight", "")
    return op.kind == "conv" and op.attributes.get("groups", 1) > 1 and shapes.get(weight, (0, 0))[axis] == 1


def _chosen(mine: Any, other: Any, choice: Choice) -> Any:
    if isinstance(mine, (list, tuple)):
        return type(mine)(_chosen(a, b, choice) for a, b in zip(mine, other, strict=True))
    return choice(mine, other) if isinstance(mine, int) and isinstance(other, int) else mine
