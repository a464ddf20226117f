"""match/common_operation.py: two operations as one, where a file does not tell all attributes. Knows no graph, no number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Op

# Between weights these hold none, and weights do not show them: what becomes of positions.
POSITIONS = frozenset({"pool", "max_pool", "average_pool", "spatial_mean", "flatten", "reshape", "reduce"})
# What front ends write down of a value, and what an operation does where nothing is said.
_ANNOTATIONS = frozenset({"shape", "size"})
_ANNOTATED = frozenset(
    {"conv", "linear", "batch_norm", "layer_norm", "pointwise", "max_pool", "average_pool", "softmax"}
)
_ANNOTATED |= {"clip", "scalar", "add", "mul", "concat"}
_DEFAULTS: Mapping[str, Any] = {"groups": 1, "dilation": 1, "transposed": False, "output_padding": 0}
_LAYOUT = ("out_axis", "in_axis")
_STEPS = ("stride", "padding", "dilation")


class Apart(Exception):
    """More differs than a file leaves open."""


def known(op: Op) -> tuple[str, dict[str, Any]]:
    """Kind and attributes without what front ends only note, in one notation."""
    skipped = {"assumed"} | (_ANNOTATIONS if op.kind in _ANNOTATED else set())
    entries = {k: _short(v) for k, v in op.attributes.items() if k not in skipped}
    return op.kind, {k: v for k, v in entries.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}


def _short(value: Any) -> Any:
    """A number in place of a list that repeats it; lists and tuples count as equal."""
    if isinstance(value, (list, tuple)):
        return value[0] if value and all(v == value[0] for v in value) else tuple(_short(v) for v in value)
    return value


def agreed(mine: Op, theirs: Op) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes of both ops: of what one does not tell what claims less; each keeps its order of axes."""
    if _steps_open(mine) or _steps_open(theirs):
        skipped: tuple[str, ...] = _STEPS
    else:
        skipped = ()
    (_, here), (_, there) = known(mine), known(theirs)
    waves = mine.kind == "pointwise" and mine.attributes["function"] == theirs.attributes["function"]
    silent = any(op.attributes.get("assumed") and "omega" not in op.attributes for op in (mine, theirs))
    if waves and silent and ACTIVATIONS[mine.attributes["function"]].frequency:
        skipped += ("omega",)
    for key in ("eps", "slope"):  # told by one: that holds
        if (key in here) != (key in there):
            here[key] = there[key] = here.get(key, there.get(key))
    aside = {*skipped, *_LAYOUT}
    if any(here.get(k) != there.get(k) for k in {*here, *there} - aside):
        raise Apart
    common = {k: mine.attributes.get(k, theirs.attributes.get(k)) for k in here if k not in aside}
    if _STEPS[0] in skipped:
        open_ = mine if _steps_open(mine) else theirs
        common["padding"] = open_.attributes.get("padding", 0)
    if any(op.attributes.get("assumed") for op in (mine, theirs)):
        common["assumed"] = True
    layouts = ({k: op.attributes[k] for k in _LAYOUT if k in op.attributes} for op in (mine, theirs))
    one, other = ({**common, **layout} for layout in layouts)
    return one, other


def _steps_open(op: Op) -> bool:
    return op.kind == "conv" and "stride" not in op.attributes


def joining(steps: Sequence[Op]) -> list[Op]:
    """What joins channels and positions to one axis."""
    return [op for op in steps if op.kind in ("flatten", "reshape", "spatial_mean")]


def largest(op: Op) -> bool:
    """Whether signs cannot pass."""
    return op.kind == "max_pool" or (op.kind == "pool" and op.attributes.get("statistic") != "average")


def averaging(op: Op) -> bool:
    return op.kind == "spatial_mean" or (op.kind == "pool" and op.attributes.get("statistic") == "average")


def same_order(safe: Sequence[Op], told: Sequence[Op]) -> bool:
    """Whether channels and positions are joined in one order, where there are several positions."""
    sizes = [op.attributes["size"] for op in safe if op.kind == "pool"]
    if not sizes or all(n == 1 for n in sizes[-1]):
        return True
    orders = [
        {"channel_outer" if op.kind == "reshape" else op.attributes.get("order", "channel_outer") for op in steps}
        for steps in (joining(safe), joining(told))
    ]
    return orders[0] == orders[1]
