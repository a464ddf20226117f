"""graph/stored_graph_check.py: whether JSON values are a graph that the rest of the package can work on. Values only.

A stored graph comes from a file, so it may say anything. What passes here has ops in topological order, known tensors,
and attributes of the kinds that `Op` lists; whether it tells the truth about the network is for the writer to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.stored_graph_shapes import Rank, check_op_shapes
from nfn_cli.printable import printable

_MAX_AXES = 32
_MAX_SIZE = 1 << 31
_MAX_STEP = 256  # of a kernel: a longer one would make huge values out of small ones
_MAX_VALUE = 1 << 24  # entries of a value whose shape the graph states
_MAX_DEPTH = 6  # of lists in an attribute


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MAX_SIZE


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _wholes(value: Any) -> bool:
    return _whole(value) or (isinstance(value, list) and len(value) <= _MAX_AXES and all(map(_whole, value)))


def _steps(value: Any) -> bool:
    return _wholes(value) and all(0 <= n <= _MAX_STEP for n in (value if isinstance(value, list) else [value]))


def _lengths(value: Any) -> bool:
    """A shape; an axis of any length is None."""
    return (
        isinstance(value, list) and len(value) <= _MAX_AXES and all(n is None or (_whole(n) and n >= 0) for n in value)
    )


def _made(value: Any) -> bool:
    """The shape of a value that an op makes, or that is fed: −1 stands for what is left."""
    listed = value if isinstance(value, list) else [value]
    whole = len(listed) <= _MAX_AXES and all(n is None or (_whole(n) and n >= -1) for n in listed)
    return whole and prod(max(n or 1, 1) for n in listed) <= _MAX_VALUE


def _is(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words if isinstance(value, str) else False


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


# What an attribute must be, by its name: a name means the same for every kind of op that has it.
_ATTRIBUTES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("out_axis", "in_axis", "axis", "groups", "start", "positions"), _whole),
    **dict.fromkeys(("stop", "step"), lambda value: value is None or _whole(value)),
    **dict.fromkeys(
        ("stride", "dilation"), lambda value: _steps(value) and 0 not in (value if isinstance(value, list) else [value])
    ),
    **dict.fromkeys(("padding", "output_padding", "before", "after"), _steps),
    "axes": lambda value: isinstance(value, list) and _wholes(value),
    **dict.fromkeys(("omega", "slope", "multiply", "add"), _number),
    "eps": lambda value: _number(value) and value >= 0,
    **dict.fromkeys(("low", "high"), lambda value: value is None or _number(value)),
    **dict.fromkeys(("transposed", "ceil", "count_padding", "align_corners", "trained", "eps_known", "assumed"), _flag),
    "function": lambda value: isinstance(value, str) and value in ACTIVATIONS,
    "shape": _made,
    "size": lambda value: isinstance(value, list) and _made(value),
    "reason": lambda value: isinstance(value, str) and len(value) <= 1000,
    "statistic": _is("mean", "sum", "max", "min", "norm", "variance", "average", "unknown"),
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "linear": ("out_axis", "in_axis"),
    "conv": ("out_axis", "in_axis"),
    "pointwise": ("function",),
    "concat": ("axis",),
    "softmax": ("axis",),
    "scale": ("axis",),
    "slice": ("axis",),
    "permute": ("order",),
    "reshape": ("shape",),
    "expand": ("shape",),
    "opaque": ("shape",),
    "reduce": ("axes", "statistic"),
    "normalize": ("axes",),
    "rms_normalize": ("axes",),
    "pool": ("size",),
    "max_pool": ("kernel",),
    "average_pool": ("kernel",),
    "scalar": ("multiply", "add"),
    "filter": ("kernel",),
    "resize": ("size", "mode"),
    "pad": ("before", "after"),
    "constant": ("value",),
}
_ROLES: Mapping[str, tuple[str, ...]] = {
    "linear": ("weight",),
    "batch_norm": ("running_mean", "running_var"),
    "scale": ("weight",),
    "parameter": ("value",),
}
_SOURCES = frozenset({"parameter", "constant", "opaque"})
_UNARY = frozenset(_REQUIRED) - {"concat", "opaque", "conv"} | {"batch_norm", "layer_norm", "flatten", "spatial_mean"}


def check_graph_values(values: Any, where: str) -> None:
    """Judge the JSON values of a graph; see `graph_file.graph_to_json` for their form.

    Raises:
        Refused: the first thing that is wrong (code "bad-graph").
    """
    if not isinstance(values, dict) or set(values) != {"inputs", "ops", "outputs", "tensors"}:
        raise _bad("needs inputs, ops, outputs and tensors", where)
    tensors = values["tensors"]
    if not isinstance(tensors, dict) or not all(_lengths(s) and None not in s for s in tensors.values()):
        raise _bad("the shapes of its tensors are no shapes", where)
    known: dict[str, Rank] = {}
    for entry in _listed(values["inputs"], where):
        name, shape = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not (isinstance(name, str) and isinstance(shape, list) and _made(shape)):
            raise _bad("an input needs a name and a shape", where)
        known[name] = len(shape)
    for number, op in enumerate(_listed(values["ops"], where)):
        output, rank = _check_op(op, known, tensors, f"{where}: op {number}")
        known[output] = rank
    outputs = _listed(values["outputs"], where)
    if not outputs or not all(isinstance(name, str) and name in known for name in outputs):
        raise _bad("its outputs are not among its values", where)


def _check_op(op: Any, known: Mapping[str, Rank], tensors: Mapping[str, Any], where: str) -> tuple[str, Rank]:
    """The name of the op's value, and its rank where that is known."""
    if not isinstance(op, list) or len(op) != 5:
        raise _bad("an op needs kind, inputs, output, parameters and attributes", where)
    kind, inputs, output, roles, attributes = op
    if not isinstance(kind, str) or not isinstance(output, str) or output in known:
        raise _bad("the kind is no word or the value is written twice", where)
    if not isinstance(inputs, list) or not all(isinstance(name, str) and name in known for name in inputs):
        raise _bad("reads a value that no earlier op writes", where)
    if (kind in _UNARY and len(inputs) != 1) or (kind not in _SOURCES and not inputs):
        raise _bad(f"{printable(kind)} cannot read {len(inputs)} values", where)
    if not isinstance(roles, dict) or not all(isinstance(n, str) and n in tensors for n in roles.values()):
        raise _bad("names a tensor that the graph does not list", where)
    if not isinstance(attributes, dict):
        raise _bad("its attributes are no map", where)
    for name in _REQUIRED.get(kind, ()):
        if name not in attributes:
            raise _bad(f"{kind} needs {name}", where)
    for role in _ROLES.get(kind, ()):
        if role not in roles:
            raise _bad(f"{kind} needs a {role}", where)
    for name, value in attributes.items():
        if not _ATTRIBUTES.get(name, _plain)(value):
            raise _bad(f"{printable(name)} cannot be {printable(value, 60)}", where)
    if attributes.get("groups", 1) < 1:
        raise _bad("groups must be positive", where)
    return output, check_op_shapes(op, known, tensors, where)


def _plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < _MAX_DEPTH and all(_plain(entry, depth + 1) for entry in value)
    return value is None or isinstance(value, (str, bool)) or _number(value)


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _bad("inputs, ops and outputs must be lists", where)
    return value


def _bad(what: str, where: str) -> Refused:
    return Refused(f"the stored graph is damaged: {what}", where=where, code="bad-graph")
