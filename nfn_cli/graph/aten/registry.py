"""graph/aten/registry.py: the table of translations, and what to do with an op that is not in it. No op is known here.

What no translation knows becomes an op of its own name: rules freeze it, the evaluator refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Parameter, Shape, Value

# (capture, shape of the result, *arguments of the ATen op) -> the result: an entry, or a list of entries
Translation = Callable[..., Any]
# a shape for a tensor, a list for several results, None for what is no tensor
Shapes = Shape | Sequence[Shape | None] | None

TRANSLATIONS: dict[str, Translation] = {}


class Untranslated(Exception):
    """The translation knows the op, but not this use of it."""


def translates(*names: str) -> Callable[[Translation], Translation]:
    """Register a translation under names of ATen ops, without overload and without the "_" of in-place variants.

    Arguments come as in the ATen schema: tensors as entries, keyword-only ones by keyword.
    """

    def register(function: Translation) -> Translation:
        for name in names:
            TRANSLATIONS[name] = function
        return function

    return register


def translated(c: Capture, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Shapes) -> Any:
    """The result of one ATen op, written into the capture.

    Args:
        name: as in `translates`.
        args, kwargs: tensors are entries (`Value`, `Parameter`), everything else plain Python values.
        out: shape of the result; a list where there are several.
    """
    start = len(c.ops)
    try:
        return TRANSLATIONS[name](c, out if isinstance(out, tuple) else (), *args, **kwargs)
    except (KeyError, Untranslated, TypeError, AttributeError):
        c.forget(start)
        return _unknown(c, name, args, out)


def _unknown(c: Capture, name: str, args: Any, out: Shapes) -> Any:
    tensors = [entry for entry in leaves(args) if isinstance(entry, (Value, Parameter))]
    if isinstance(out, tuple):
        return c.op(f"aten.{name}", tensors, out, shape=list(out))
    if out is None:
        return None
    return [
        None if part is None else c.op(f"aten.{name}.{index}", tensors, part, shape=list(part))
        for index, part in enumerate(out)
    ]


def leaves(entry: Any) -> list[Any]:
    """What nested lists, tuples and dictionaries hold, in order."""
    if isinstance(entry, dict):
        entry = list(entry.values())
    if isinstance(entry, (list, tuple)):
        return [leaf for part in entry for leaf in leaves(part)]
    return [entry]


def ints(value: Any, count: int) -> list[int]:
    """One number, or a list of one, stands for `count` equal ones."""
    if isinstance(value, int):
        return [value] * count
    values = [int(n) for n in value]
    return values * count if len(values) == 1 else values


def is_number(entry: Any) -> bool:
    return isinstance(entry, (int, float)) and not isinstance(entry, bool)
