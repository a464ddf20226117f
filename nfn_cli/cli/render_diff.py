"""cli/render_diff.py: how two networks differ, for people: a row a unit set, then the units and tensors that differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nfn_cli.cli import render

_SHOWN_TENSORS = 20
_FOUND = ("changed", "split", "merged", "added", "removed", "died", "revived", "dead")


def difference(answer: Mapping[str, Any], limit: int | None) -> None:
    """The comparison of two checkpoints, from its JSON object.

    Args:
        limit: units to list at most; None: all.
    """
    sets = answer["unit_sets"]
    if sets:
        columns = [("units", "left"), ("A", "right"), ("B", "right"), ("same", "right"), ("moved", "right")]
        columns += [("distance", "right"), ("otherwise", "left")]
        render.table(columns, [_set_row(unit_set) for unit_set in sets])
    _units(sets, limit)
    _tensors(answer["tensors"], answer["tolerance"])
    verdict = "the same network up to the group" if answer["equivalent"] else _sum(answer["counts"])
    render.line(
        f"{answer['path']} → {answer['other']}: {verdict}; distance {_size(answer['distance'])}, "
        f"residuals up to {answer['tolerance']:.1e} count as none"
    )


def _set_row(unit_set: Mapping[str, Any]) -> list[str]:
    counts = unit_set["counts"]
    sizes = [str(unit_set[key]) for key in ("size", "other_size")]
    numbers = [str(counts["same"]), str(unit_set["moved"])]
    return [unit_set["name"], *sizes, *numbers, _size(unit_set["distance"]), _otherwise(counts)]


def _otherwise(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in _FOUND if counts[status]) or "-"


def _sum(counts: Mapping[str, int]) -> str:
    found = _otherwise(counts)
    return "units all the same, other weights differ" if found == "-" else f"{found}; {counts['same']} the same"


def _units(sets: Sequence[Mapping[str, Any]], limit: int | None) -> None:
    found = [(unit_set["name"], unit) for unit_set in sets for unit in unit_set["units"]]
    if limit is not None:
        found = [(name, unit) for name, unit in found if unit["status"] not in ("same", "dead")]
        # what has no distance is all new or all gone
        found.sort(key=lambda entry: -(float("inf") if entry[1]["distance"] is None else entry[1]["distance"]))
    shown = found[:limit]
    if shown:
        columns = [("unit of", "left"), ("A", "right"), ("B", "right"), ("", "left")]
        columns += [("distance", "right"), ("outgoing", "right")]
        render.table(columns, [_unit_row(name, unit) for name, unit in shown])
    if len(found) > len(shown):
        render.line(f"{len(found) - len(shown)} more units differ (--units all)")


def _unit_row(name: str, unit: Mapping[str, Any]) -> list[str]:
    numbers = [" ".join(map(str, unit[key])) or "-" for key in ("units", "other_units")]
    return [name, *numbers, unit["status"], _size(unit["distance"]), _size(unit["outgoing"])]


def _tensors(tensors: Sequence[Mapping[str, Any]], tolerance: float) -> None:
    found = [t for t in tensors if t["residual"] > tolerance or t["shape"] != t["other_shape"]]
    found.sort(key=lambda tensor: -tensor["distance"])
    if found:
        columns = [("tensor", "left"), ("A", "left"), ("B", "left"), ("distance", "right")]
        render.table(columns, [_tensor_row(tensor) for tensor in found[:_SHOWN_TENSORS]])
    if len(found) > _SHOWN_TENSORS:
        render.line(f"{len(found) - _SHOWN_TENSORS} more tensors differ")


def _tensor_row(tensor: Mapping[str, Any]) -> list[str]:
    shapes = ["×".join(map(str, tensor[key])) for key in ("shape", "other_shape")]
    return [tensor["name"], shapes[0], "=" if shapes[0] == shapes[1] else shapes[1], _size(tensor["distance"])]


def _size(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.2e}" if value < 1e-3 else f"{value:.3f}"
