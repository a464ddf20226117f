"""symmetry/extras/insensitive.py: values of which nobody notices a number added to all units at once, whatever it depends on."""

from __future__ import annotations

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.survey import Survey

_BLIND = {"layer_norm", "normalize", "softmax"}


def runs_of_insensitivity(survey: Survey, value: str, axis: int, seen: dict[tuple[str, int], int]) -> int:
    """Into how many equal runs the axis falls, each of which may be shifted as a whole, differently for every input; 0: none.

    True where all that reads the value takes the mean over the axis (or each run of it), and nothing but it, away.
    """
    key = (value, axis)
    if key not in seen:
        readers = survey.readers.get(value, ())
        found = [_of_reader(survey, op, value, axis, seen) for op in readers]
        seen[key] = 0 if not found or 0 in found else (found[0] if len(set(found)) == 1 else 1)
    return seen[key]


def _of_reader(survey: Survey, op: Op | None, value: str, axis: int, seen: dict[tuple[str, int], int]) -> int:
    shape, out = survey.shapes[value], survey.shapes[op.output] if op is not None else None
    if op is None or shape is None or out is None:
        return 0
    at = op.attributes
    if op.kind in _BLIND:
        groups = int(at.get("groups") or 0)
        axes = {a % len(shape) for a in at.get("axes", (at.get("axis", -1),))} | ({1} if groups else set())
        if groups:
            axes |= set(range(1, len(shape)))
        return (groups or 1) if axes == {axis} else 0
    average = at.get("statistic", "average") in ("average", "mean")
    if op.kind == "permute":
        after = list(at["order"]).index(axis)
    elif op.kind == "add":
        after = axis + len(out) - len(shape)
    elif (
        (op.kind == "pointwise" and at["function"] == "identity")
        or (op.kind == "scalar" and at.get("multiply", 1.0))
        or (op.kind in ("average_pool", "pool", "spatial_mean", "resize") and average and axis == 1)
        or (op.kind == "reduce" and average and axis not in {a % len(shape) for a in at["axes"]})
    ):
        after = axis
    else:
        return 0
    return runs_of_insensitivity(survey, op.output, after, seen) if out[after] == shape[axis] else 0
