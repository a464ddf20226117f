"""graph/aten/registry.py: the table of translations, and what to do with an op that is not in it. No op is known here.

What no translation knows becomes an op of its own name: rules freeze it, the evaluator refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Parameter, Shape, Value

# (capture, shape of the result, *arguments of the ATen op) -> the result: an entry, or a list of entries
Translation = Callable[..., Any]


@dataclass(frozen=True)
class Result:
    """A tensor that an op gives."""

    shape: Shape
    floating: bool = True


# one tensor, several (None: something else), none
Results = Result | Sequence[Result | None] | None

TRANSLATIONS: dict[str, Translation] = {}
_SHARING: dict[str, str] = {}


class Untranslated(Exception):
    """The translation knows the op, but not this use of it."""


def translates(*names: str, memory: str = "fresh") -> Callable[[Translation], Translation]:
    """Register a translation under names of ATen ops, without overload and without the "_" of in-place variants.

    Arguments come as in the ATen schema: tensors as entries, keyword-only ones by keyword.

    Args:
        memory: of the result: "fresh", "shared" (it may lie in that of an argument) or "same" (it is the first argument,
            where the translation gives that back).
    """

    def register(function: Translation) -> Translation:
        for name in names:
            TRANSLATIONS[name] = function
            _SHARING[name] = memory
        return function

    return register


def sharing(name: str) -> str:
    """Where the result of an op lies; of an unknown op nothing better is known than "shared"."""
    return _SHARING.get(name, "shared")


def translated(c: Capture, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Results) -> Any:
    """The result of one ATen op, written into the capture.

    Args:
        name: as in `translates`.
        args, kwargs: tensors are entries (`Value`, `Parameter`), everything else plain Python values.
        out: what comes out.
    """
    start = len(c.ops)
    first = out if isinstance(out, Result) else next(iter(out or ()), None)
    try:
        if first is None or not first.floating:
            raise Untranslated  # whole numbers are rounded; our ops are not
        made = TRANSLATIONS[name](c, out.shape if isinstance(out, Result) else (), *args, **kwargs)
        _check(made, out)
        return _completed(c, name, made, [args, *kwargs.values()], out)
    except (Untranslated, KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError):
        c.forget(start)
        return _unknown(c, name, [args, *kwargs.values()], out)


def _completed(c: Capture, name: str, made: Any, given: Any, out: Results) -> Any:
    """Results that the translation has no word for (indices, statistics) are there, but opaque."""
    if not isinstance(made, list) or None not in made:
        return made
    others = _unknown(c, name, given, out)
    return [other if entry is None else entry for entry, other in zip(made, others, strict=True)]


def _check(made: Any, out: Results) -> None:
    """A translation that gives other shapes than the program has was not meant for this use."""
    entries, results = (
        (made if isinstance(made, list) else [made]),
        ([out] if isinstance(out, Result) else list(out or ())),
    )
    if len(entries) != len(results) or isinstance(made, list) == isinstance(out, Result):
        raise Untranslated
    for entry, result in zip(entries, results, strict=True):
        if entry is not None and (not isinstance(result, Result) or tuple(entry.shape) != result.shape):
            raise Untranslated


def _unknown(c: Capture, name: str, given: Any, out: Results) -> Any:
    tensors = [entry for entry in leaves(given) if isinstance(entry, (Value, Parameter))]
    if isinstance(out, Result):
        return c.op(f"aten.{name}", tensors, out.shape, shape=list(out.shape))
    if out is None:
        return None
    return [
        None if part is None else c.op(f"aten.{name}.{index}", tensors, part.shape, shape=list(part.shape))
        for index, part in enumerate(out)
    ]


def leaves(entry: Any) -> list[Any]:
    """What nested lists, tuples and dictionaries hold, in order."""
    if isinstance(entry, dict):
        entry = list(entry.values())
    if isinstance(entry, (list, tuple)):
        return [leaf for part in entry for leaf in leaves(part)]
    return [entry]


def ints(value: Any, count: int, least: int = 0) -> list[int]:
    """One number, or a list of one, stands for `count` equal ones; none is smaller than `least`."""
    values = [value] if isinstance(value, int) else [int(n) for n in value]
    values = values * count if len(values) == 1 else values
    if len(values) != count or any(n < least for n in values):
        raise Untranslated
    return values


def is_number(entry: Any) -> bool:
    return isinstance(entry, (int, float)) and not isinstance(entry, bool)
