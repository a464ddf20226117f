"""match/pairing.py: whether two checkpoints hold networks of one architecture, and which tensor stands for which. No numbers.

A weight may be stored in another order of axes (out × in, in × out, kernel positions first): it is read in the left one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network, Op

Array = np.ndarray[Any, np.dtype[Any]]
_LAYOUT = ("out_axis", "in_axis")


@dataclass(frozen=True)
class Partner:
    """A tensor of the right networks.

    Attributes:
        name: in the right checkpoint.
        axes: the right tensor's axes in the left one's order; None where they are in that order.
    """

    name: str
    axes: tuple[int, ...] | None = None

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of the right tensor, in the left one's order."""
        return tuple(shape) if self.axes is None else tuple(shape[axis] for axis in self.axes)


class Renamed(Mapping[str, Array]):
    """Tensors of the right networks under the names of the left ones and in their order of axes; read when asked for."""

    def __init__(self, tensors: Mapping[str, Array], partners: Mapping[str, Partner]) -> None:
        self._tensors, self._partners = tensors, partners

    def __getitem__(self, name: str) -> Array:
        partner = self._partners[name]
        array = self._tensors[partner.name]
        return array if partner.axes is None else np.transpose(array, partner.axes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._partners)

    def __len__(self) -> int:
        return len(self._partners)


def partner_of(one: Op, other: Op, role: str, dimensions: int) -> Partner:
    """What stands in the other operation for a parameter of the first with so many axes."""
    name = other.parameters[role]
    places = [(one.attributes.get(key), other.attributes.get(key)) for key in _LAYOUT]
    if role != "weight" or all(here == there for here, there in places):
        return Partner(name)
    known = sorted((here, there) for here, there in places if isinstance(here, int) and isinstance(there, int))
    moved = {there for _, there in known}
    axes = [axis for axis in range(dimensions) if axis not in moved]
    for here, there in known:
        axes.insert(here, there)
    return Partner(name, tuple(axes))


def partners(left: Sequence[Network], right: Sequence[Network]) -> dict[str, Partner]:
    """Tensor of the left networks -> tensor of the right ones with the same place in the graph; names need not agree.

    Raises:
        Refused: the graphs differ (code "different-architectures"); the message names the first difference.
    """
    if len(left) != len(right):
        raise _different(f"{len(left)} and {len(right)} networks")
    found: dict[str, Partner] = {}
    for one, other in zip(left, right, strict=True):
        _pair_graphs(one.graph, other.graph, found)
    return found


def _pair_graphs(left: Graph, right: Graph, found: dict[str, Partner]) -> None:
    if len(left.inputs) != len(right.inputs) or any(
        not _same_input(one.shape, other.shape) for one, other in zip(left.inputs, right.inputs, strict=True)
    ):
        raise _different("inputs of different shapes")
    if len(left.ops) != len(right.ops):
        raise _different(f"{len(left.ops)} and {len(right.ops)} operations")
    values = {one.name: other.name for one, other in zip(left.inputs, right.inputs, strict=True)}
    for one, other in zip(left.ops, right.ops, strict=True):
        _check_ops(one, other, values)
        values[one.output] = other.output
        for role, name in one.parameters.items():
            here, there = tuple(left.parameter_shapes[name]), right.parameter_shapes[other.parameters[role]]
            partner = partner_of(one, other, role, len(here))
            if len(here) != len(there) or here != partner.shape(there):
                raise _different(f"{name} is {_text(here)} here and {_text(tuple(there))} there")
            if found.setdefault(name, partner) != partner:
                raise _different(f"{name} is shared in one network only")
    if [values[name] for name in left.outputs] != list(right.outputs):
        raise _different("other outputs")


def _same_input(here: Sequence[int | None], there: Sequence[int | None]) -> bool:
    """Whether some input fits both: the batch may have any size, as may an axis for which a graph names none."""
    axes = list(zip(here, there, strict=False))[1:]
    return len(here) == len(there) and all(a == b or None in (a, b) for a, b in axes)


def _check_ops(one: Op, other: Op, values: Mapping[str, str]) -> None:
    if one.kind != other.kind:
        raise _different(f"{one.kind} here, {other.kind} there")
    if tuple(values[name] for name in one.inputs) != tuple(other.inputs):
        raise _different(f"{one.kind} reads other values")
    if set(one.parameters) != set(other.parameters):
        raise _different(f"{one.kind} has other parameters")
    attributes, others = _plain(one.attributes), _plain(other.attributes)
    if "weight" in one.parameters and all(key in each for key in _LAYOUT for each in (attributes, others)):
        others |= {key: attributes[key] for key in _LAYOUT}
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
