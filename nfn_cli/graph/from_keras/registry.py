"""graph/from_keras/registry.py: the table of Keras layers, and how they read their settings. No layer is known here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nfn_cli.graph.from_keras.builder import Builder, Unsaid, Value
from nfn_cli.graph.from_keras.calls import Call

Translation = Callable[[Builder, Call, list[Value]], Value]

LAYERS: dict[str, Translation] = {}
WITH_ARGUMENTS: set[str] = set()


def layer(*kinds: str, arguments: bool = False) -> Callable[[Translation], Translation]:
    """Register what layers of these classes compute; functions called as layers stand under "ops.CLASS" or "TFOpLambda.NAME".

    Args:
        arguments: whether they may be called on plain arguments, too.
    """

    def register(function: Translation) -> Translation:
        LAYERS.update(dict.fromkeys(kinds, function))
        WITH_ARGUMENTS.update(kinds if arguments else ())
        return function

    return register


def one(inputs: Sequence[Value]) -> Value:
    """The only input."""
    if len(inputs) != 1:
        raise Unsaid
    return inputs[0]


def each(value: Any, count: int) -> list[int]:
    """One whole number for each spatial axis."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count or any(type(n) is not int for n in values):
        raise Unsaid
    return values
