"""graph/from_onnx/registry.py: the table of translations, and how they read a node. No node kind is known here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.checkpoint.onnx_graph import Node
from nfn_cli.graph.from_onnx.capture import Capture, Entry, Parts, Shape, Untranslated


@dataclass(frozen=True)
class Call:
    """One node with its inputs looked up.

    Attributes:
        c: the state of the translation.
        node: kind and attributes.
        inputs: None where an optional input is missing.
    """

    c: Capture
    node: Node
    inputs: tuple[Entry | Parts | None, ...]

    def __getitem__(self, position: int) -> Entry:
        entry = self.get(position)
        if entry is None:
            raise Untranslated
        return entry

    def get(self, position: int) -> Entry | None:
        entry = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(entry, Parts):
            raise Untranslated
        return entry

    @property
    def shape(self) -> Shape:
        """Shape of the first input."""
        return tuple(self[0].shape)

    def attribute(self, name: str, default: Any) -> Any:
        return self.node.attributes.get(name, default)

    def axis(self, value: int, rank: int | None = None) -> int:
        """An axis counted from either end.

        Raises:
            Untranslated: there is no such axis.
        """
        rank = len(self.shape) if rank is None else rank
        if not -rank <= value < rank:
            raise Untranslated
        return value % rank

    def integers(self, position: int, name: str) -> list[int] | None:
        """Integers that newer versions take as an input and older ones as an attribute; None where there are none.

        Raises:
            Untranslated: they are computed by the network.
        """
        if name in self.node.attributes:
            given = self.node.attributes[name]
            return [int(n) for n in (given if isinstance(given, (list, tuple)) else [given])]
        entry = self.get(position)
        if entry is None:
            return None
        array = self.c.numbers(entry)
        if array is None or array.dtype.kind not in "iu":
            raise Untranslated
        return [int(n) for n in array.reshape(-1)]

    def numbers(self, position: int) -> list[float] | None:
        """Finite numbers of an input; None where it is missing."""
        entry = self.get(position)
        array = None if entry is None else self.c.numbers(entry)
        if array is None:
            if entry is not None:
                raise Untranslated
            return None
        return [float(n) for n in np.asarray(array, np.float64).reshape(-1)]


# what a node makes: one entry, or one for each output
Translation = Callable[[Call], Any]

TRANSLATIONS: dict[str, Translation] = {}


def translates(*kinds: str) -> Callable[[Translation], Translation]:
    def register(function: Translation) -> Translation:
        for kind in kinds:
            TRANSLATIONS[kind] = function
        return function

    return register


def ints(value: Any, count: int) -> list[int]:
    """One for each spatial axis.

    Raises:
        Untranslated: there are fewer or more.
    """
    values: Sequence[int] = value if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise Untranslated
    return [int(n) for n in values]
