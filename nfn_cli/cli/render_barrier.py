"""cli/render_barrier.py: the curves between two networks for people: a table, and a page to draw."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from nfn_cli.cli import render
from nfn_cli.cli.chart import BLUE, GREY, VERMILION, Page, Panel, Series, page

_LINES = (("naive", VERMILION, "square"), ("aligned", BLUE, "round"))


def curves(answer: Mapping[str, Any]) -> None:
    """From the JSON object."""
    for network in answer["networks"]:
        name = f"{network['name']}: " if network["name"] else ""
        if network["not_run"] is not None:
            render.line(f"{name}not run: {network['not_run']}")
            continue
        render.line(f"{name}{network['loss']} over {network['inputs']} inputs")
        measures = ["loss"] if network["naive"]["accuracy"] is None else ["loss", "accuracy"]
        columns = [("part of B", "right")]
        columns += [(f"{measure}, {said}", "right") for measure in measures for said, _, _ in _LINES]
        rows = [
            [f"{share:.3g}", *(_number(network[line][m][at]) for m in measures for line, _, _ in _LINES)]
            for at, share in enumerate(answer["shares"])
        ]
        render.table(columns, rows)
        naive, aligned = network["naive"], network["aligned"]
        lost = "" if len(measures) == 1 else f"; accuracy lost: {_lost(naive)} naive, {_lost(aligned)} aligned"
        render.line(f"barrier: {_number(naive['barrier'])} naive, {_number(aligned['barrier'])} aligned{lost}")
    render.line(f"squared distance of the weights: {answer['start']:.4g} before, {answer['objective']:.4g} after")


def chart(answer: Mapping[str, Any]) -> Page:
    """A row of axes for each network that was run: loss, and accuracy where there is one."""
    return page([_panels(network, answer["shares"]) for network in answer["networks"] if network["not_run"] is None])


def _panels(network: Mapping[str, Any], shares: list[float]) -> list[Panel]:
    name = f"{network['name']}: " if network["name"] else ""
    measures = [("loss", network["loss"], "barrier")]
    if network["naive"]["accuracy"] is not None:
        measures.append(("accuracy", "accuracy", "accuracy_lost"))
    panels = []
    for measure, title, height in measures:
        series = []
        for line, colour, dot in _LINES:
            values = tuple(network[line][measure])
            label = f"{line}: {height.replace('_', ' ')} {_number(network[line][height])}"
            series.append(Series(label, colour, values, dot))
        ends = network["aligned"][measure]
        straight = tuple((1 - share) * ends[0] + share * ends[-1] for share in shares)
        series.insert(0, Series("straight line between the ends", GREY, straight))
        panels.append(Panel(f"{name}{title}", "part of B", tuple(shares), tuple(series)))
    return panels


def _lost(curve: Mapping[str, Any]) -> str:
    return _number(curve["accuracy_lost"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isfinite(value) else "not finite"
