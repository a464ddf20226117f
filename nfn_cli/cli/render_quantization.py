"""cli/render_quantization.py: the quantization report for people: a row a weight, a column a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nfn_cli.cli import render


def report(answer: Mapping[str, Any]) -> None:
    """The report of one checkpoint, from its JSON object."""
    forms = answer["forms"]
    render.line(
        f"{answer['path']}: int{answer['bits']} weights, signal-to-noise ratio in dB (range use of the channels)"
    )
    for network in answer["networks"]:
        if network["name"]:
            render.line(f"{network['name']}:")
        rows = [[weight["tensor"], *(_cell(weight["forms"][form]) for form in forms)] for weight in network["weights"]]
        columns = [("weight", "left"), *((form, "right") for form in forms)]
        if rows:
            worst = [_least([weight["forms"][form]["snr_db"] for weight in network["weights"]]) for form in forms]
            render.table(columns, [*rows, ["worst weight", *(_decibels(value) for value in worst)]])
        _effect(network, forms)


def _cell(quality: Mapping[str, Any]) -> str:
    return f"{_decibels(quality['snr_db'])} ({quality['mean_range_use']:.2f})"


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _least(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _effect(network: Mapping[str, Any], forms: Sequence[str]) -> None:
    effect = network["effect"]
    if effect is None:
        if network["not_run"] is not None:
            render.line(f"outputs were not compared: {network['not_run']}")
        return
    rows = [
        [form, f"{found['output_change']:.2e}", _share(found["agreement"]), _share(found["accuracy"])]
        for form, found in effect["forms"].items()
    ]
    columns = [("form", "left"), ("output change", "right"), ("same answer", "right"), ("accuracy", "right")]
    render.table(columns, rows)
    floating = "" if effect["accuracy"] is None else f"; in floating point the accuracy is {effect['accuracy']:.4f}"
    render.line(f"{effect['inputs']} inputs{floating}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
