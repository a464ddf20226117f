"""match/pairing.py: whether two checkpoints hold networks of one architecture, and which tensor stands for which. No numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network, Op


def paired_names(left: Sequence[Network], right: Sequence[Network]) -> dict[str, str]:
    """Tensor of the left networks -> tensor of the right ones with the same place in the graph; names need not agree.

    Raises:
        Refused: the graphs differ (code "different-architectures"); the message names the first difference.
    """
    if len(left) != len(right):
        raise _different(f"{len(left)} and {len(right)} networks")
    names: dict[str, str] = {}
    for one, other in zip(left, right, strict=True):
        _pair_graphs(one.graph, other.graph, names)
    return names


def _pair_graphs(left: Graph, right: Graph, names: dict[str, str]) -> None:
    if [entry.shape for entry in left.inputs] != [entry.shape for entry in right.inputs]:
        raise _different("inputs of different shapes")
    if len(left.ops) != len(right.ops):
        raise _different(f"{len(left.ops)} and {len(right.ops)} operations")
    values = {one.name: other.name for one, other in zip(left.inputs, right.inputs, strict=True)}
    for one, other in zip(left.ops, right.ops, strict=True):
        _check_ops(one, other, values)
        values[one.output] = other.output
        for role, name in one.parameters.items():
            partner = other.parameters[role]
            shapes = tuple(left.parameter_shapes[name]), tuple(right.parameter_shapes[partner])
            if shapes[0] != shapes[1]:
                raise _different(f"{name} is {_text(shapes[0])} here and {_text(shapes[1])} there")
            if names.setdefault(name, partner) != partner:
                raise _different(f"{name} is shared in one network only")
    if [values[name] for name in left.outputs] != list(right.outputs):
        raise _different("other outputs")


def _check_ops(one: Op, other: Op, values: Mapping[str, str]) -> None:
    if one.kind != other.kind:
        raise _different(f"{one.kind} here, {other.kind} there")
    if tuple(values[name] for name in one.inputs) != tuple(other.inputs):
        raise _different(f"{one.kind} reads other values")
    if set(one.parameters) != set(other.parameters):
        raise _different(f"{one.kind} has other parameters")
    attributes, others = _plain(one.attributes), _plain(other.attributes)
    if attributes != others:
        different = [key for key in sorted({*attributes, *others}) if attributes.get(key) != others.get(key)]
        key = different[0]
        raise _different(f"{key} of {one.kind} is {attributes.get(key)!r} here and {others.get(key)!r} there")


def _plain(value: Any) -> Any:
    """Lists and tuples count as equal."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(entry) for entry in value)
    return value


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _different(what: str) -> Refused:
    return Refused(f"not the same architecture: {what}", code="different-architectures")
