"""cli/render_audit.py: the answer of `nfn audit-invariance` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nfn_cli.cli.render import line, table

_SHARES = ("permutation", "group-exchange", "sign")
_SCALES = ("scale", "power-of-two")
_SAID = {
    "identity": "asked twice",
    "group-exchange": "groups exchanged",
    "power-of-two": "power of two",
    "all": "all together",
}


def audit_result(answer: Mapping[str, Any]) -> None:
    """One row a generator and magnitude, then what failed or could not be judged, then the verdict."""
    networks = answer["networks"]
    line(f"{answer['predictor']} on {_count(len(networks), 'network')}, {_count(answer['samples'], 'element')} each")
    table(
        [
            ("generator", "left"),
            ("up to", "right"),
            ("same function", "right"),
            ("largest change", "right"),
            ("mean", "right"),
            ("float64", "right"),
            ("verdict", "left"),
        ],
        [_row(entry) for entry in answer["generators"]],
    )
    for entry in _first_of_a_kind(answer["generators"]):
        line(f"{_name(entry)} {_magnitude(entry)}: {entry['reason']}".replace(" :", ":"))
    if answer["resolution"]:
        line(f"it rounds its answers to {answer['resolution']:g}: one such step is not counted")
    line(f"verdict: {answer['verdict'] if answer['verdict'] != 'none' else 'none, too little could be judged'}")


def _first_of_a_kind(entries: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of each generator the first magnitude that failed, and the first with anything left unjudged."""
    said = set()
    for entry in entries:
        kind = (entry["generator"], entry["verdict"])
        if entry["reason"] and kind not in said:
            said.add(kind)
            yield entry


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _row(entry: Mapping[str, Any]) -> list[str]:
    return [
        _name(entry),
        _magnitude(entry),
        f"{entry['preserved']} of {entry['elements']}",
        _number(entry["largest_change"]),
        _number(entry["mean_change"]),
        _number(entry["largest_change_float64"]),
        entry["verdict"] if entry["verdict"] != "none" else "-",
    ]


def _name(entry: Mapping[str, Any]) -> str:
    name: str = entry["generator"]
    return _SAID.get(name, name)


def _magnitude(entry: Mapping[str, Any]) -> str:
    """In the unit of its kind: a share of the units, a factor, half periods."""
    magnitude, kind = entry["magnitude"], entry["generator"]
    if magnitude is None:
        return ""
    if kind in _SHARES:
        return f"{magnitude:.0%}"
    return f"{magnitude:g}×" if kind in _SCALES else f"{magnitude:g}π"


def _number(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"
