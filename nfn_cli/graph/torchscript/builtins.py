"""graph/torchscript/builtins.py: what TorchScript code computes without tensors: numbers, tests, text, lists. No ATen op.

Sizes stay small whatever the program wants: numbers of 64 bits, lists of some thousand entries, no text is ever formatted.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.aten.program import Tensor
from nfn_cli.graph.torchscript.meta import DoesNotFit
from nfn_cli.printable import printable

_LONGEST = 10_000
_LARGEST = 1 << 63
_FLOATING, _BOOL = (5, 6, 7, 15), 11  # c10::ScalarType


def _is(left: Any, right: Any) -> bool:
    if left is not None and right is not None:
        raise Refused("the program asks whether two objects are one", code="not-capturable")
    return left is right


def _power(base: float, exponent: float) -> Any:
    if abs(exponent) > 64:
        raise Refused("the program computes a huge power", code="not-capturable")
    return base**exponent


def _times(left: Any, right: Any) -> Any:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, (list, str)) and (type(times) is not int or len(many) * times > _LONGEST):
            raise Refused("the program makes a huge list", code="too-large")
    return left * right


def _cast(number: float, *types: Any) -> Any:
    """A number in another type; among what names it is a code of c10::ScalarType."""
    code = next((entry for entry in types if type(entry) is int), None)
    return (
        number
        if code is None
        else float(number)
        if code in _FLOATING
        else bool(number)
        if code == _BOOL
        else int(number)
    )


def _raise(*message: Any) -> Any:
    text = next((part for part in message if isinstance(part, str)), "")
    raise DoesNotFit(f"the program raises an exception ({printable(text, 100)})", code="not-capturable")


_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1: a + (b if alpha == 1 else alpha * b),
    "sub": lambda a, b, alpha=1: a - (b if alpha == 1 else alpha * b),
    "rsub": lambda a, b, alpha=1: b - a * alpha,
    "mul": _times,
    "div": lambda a, b, rounding_mode=None: (
        a / b if rounding_mode is None else a // b if rounding_mode == "floor" else int(a / b)
    ),
    "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "pow": _power,
    "neg": operator.neg,
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "sqrt": math.sqrt,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
    "le": operator.le,
    "ge": operator.ge,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__not__": operator.not_,
    "Int": int,
    "Float": float,
    "Bool": bool,
    "IntImplicit": int,
    "FloatImplicit": float,
    "ScalarImplicit": lambda a: a,
    "NumToTensor": lambda a: a,
    "min": min,
    "max": max,
    "scalar_tensor": lambda a, dtype=None, **_: _cast(a, dtype),
    "to": lambda a, *more, dtype=None, **_: _cast(a, dtype, *more),
    "detach": lambda a: a,
    "is_grad_enabled": lambda: False,
    "is_scripting": lambda: True,
    "is_tracing": lambda: False,
    "is_autocast_enabled": lambda *_: False,
    "get_default_dtype": lambda: 6,
}
# these may hold tensors in their lists, or be asked about one
_ANYWHERE: dict[str, Callable[..., Any]] = {
    "__is__": _is,
    "__isnot__": lambda a, b: not _is(a, b),
    "format": lambda *_, **__: "",
    "warn": lambda *_, **__: None,
    "RaiseException": _raise,
    "unchecked_unwrap_optional": lambda a: a,
    "unwrap_optional": lambda a: a,
    "_unwrap_optional": lambda a: a,
}
_OF_TENSORS: dict[str, Callable[..., Any]] = {
    "dim": lambda x: len(x.shape),
    "len": lambda x: x.shape[0],
    "numel": lambda x: math.prod(x.shape),
    "size": lambda x, axis=None: list(x.shape) if axis is None else x.shape[axis],
    "dtype": lambda x: x.content.dtype,
    "device": lambda x: x.content.device,
    "is_cuda": lambda x: False,
    "is_quantized": lambda x: False,
    "requires_grad": lambda x: False,
    "is_floating_point": lambda x: x.floating,
    "is_complex": lambda x: False,
    "data": lambda x: x,
}
_LISTS: dict[str, Callable[..., Any]] = {
    "len": len,
    "append": lambda a, b: a.append(b) or a,
    "extend": lambda a, b: a.extend(b),
    "insert": lambda a, i, b: a.insert(i, b),
    "pop": lambda a, i=-1: a.pop(i),
    "reverse": lambda a: a.reverse(),
    "clear": lambda a: a.clear(),
    "_set_item": operator.setitem,
    "list": list,
    "copy": list,
    "add": operator.add,
    "mul": _times,
    "eq": operator.eq,
    "ne": operator.ne,
    "select": operator.getitem,
    "__getitem__": operator.getitem,
    "slice": lambda a, start=None, stop=None, step=1: a[start:stop:step],
    "__contains__": lambda a, b: b in a,
    "max": max,
    "min": min,
    "sum": sum,
}


def builtin(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """(whether it is a builtin for these arguments, its value).

    Raises:
        Refused: the value would be huge, or the arguments are not of its kind.
    """
    table = None
    if name in _ANYWHERE:
        table = _ANYWHERE
    elif args and isinstance(args[0], (list, tuple, str, dict)) and name in _LISTS:
        table = _LISTS
    elif args and isinstance(args[0], Tensor) and name in _OF_TENSORS:
        table = _OF_TENSORS
    elif name in _NUMBERS and all(isinstance(a, (int, float, str, bool, type(None))) for a in args):
        table = _NUMBERS
    if table is None:
        return False, None
    try:
        value = table[name](*args, **kwargs)
    except (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError):
        raise DoesNotFit(f"torch.{printable(name, 60)} cannot be followed", code="not-capturable") from None
    if (isinstance(value, (list, str)) and len(value) > _LONGEST) or (type(value) is int and abs(value) >= _LARGEST):
        raise Refused("the program computes a huge value", code="too-large")
    return True, value
