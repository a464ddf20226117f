"""cli/render_merge.py: what was merged, for people: a row a network, the mean last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nfn_cli.cli import render


def merged(answer: Mapping[str, Any]) -> None:
    """From the JSON object."""
    columns = [("checkpoint", "left"), ("weight", "right"), ("distance² before", "right"), ("aligned", "right")]
    columns += [("units moved", "right")]
    rows = [
        [
            member["path"],
            f"{member['weight']:.3f}",
            *(["-", "-", "-"] if not number else _alignment(member)),
        ]
        for number, member in enumerate(answer["members"])
    ]
    render.table(columns, rows)
    for network in answer["networks"]:
        _on_data(network, answer)
    rounds = len(answer["spread"]) - 1
    again = f", aligned to the mean of the others in {rounds} round{'s' * (rounds != 1)}" if rounds else ""
    render.line(f"{answer['output']}: mean of {len(rows)} networks in the frame of the first{again}")


def _alignment(member: Mapping[str, Any]) -> list[str]:
    return [f"{member['start']:.4g}", f"{member['objective']:.4g}", f"{member['moved']} of {member['units']}"]


def _on_data(network: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    name = f"{network['name']}: " if network["name"] else ""
    if network["not_run"] is not None:
        render.line(f"{name}not run: {network['not_run']}")
        return
    if network["merged"] is not None:
        paths = [member["path"] for member in answer["members"]]
        does = [*zip(paths, network["members"], strict=True), ("the mean", network["merged"])]
        columns = [("network", "left"), (network["loss"], "right"), ("accuracy", "right")]
        render.table(columns, [[path, number(each["loss"]), number(each["accuracy"])] for path, each in does])
    batches = network["batch_norm_batches"]
    if batches is not None:
        parts = "in one batch" if batches == 1 else f"in {batches} batches"
        source = answer["batch_norm_data"] or answer["data"]
        render.line(f"{name}batch norm statistics measured {parts} of {source}")


def number(value: float | None) -> str:
    """Four digits behind the point; a dash for none."""
    return "-" if value is None else f"{value:.4f}"
