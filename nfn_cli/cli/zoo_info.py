"""cli/zoo_info.py: `nfn zoo info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nfn_cli.cli import options as o
from nfn_cli.cli import zoo_options as z


def info(source: z.Source, json: o.Json = False) -> None:
    """Tell what a zoo holds: rows, runs, architectures, columns with their ranges, the default split.

    Examples:

      nfn zoo info zoo

      nfn zoo info runs/scores.csv --json
    """
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.cli.zoo_import import _progress
    from nfn_cli.zoo.summary import summary_of

    session = Session("zoo-info", json)
    with session.watched(source):
        summary = summary_of(source, _progress("opening"))
        for each in summary["left_out"]:
            session.note(f"left out {each['path']}: {each['reason']}")
        if json:
            write_object({"schema": "nfn.zoo-info/1", "path": source, **summary})
        else:
            _render(source, summary)
    session.end()


def _render(source: str, summary: Mapping[str, Any]) -> None:
    from nfn_cli.cli import render

    render.line(f"{source}: {summary['description']}")
    runs = "" if summary["runs"] is None else f", {summary['runs']:,} runs"
    render.line(f"{summary['rows']:,} networks{runs}, {summary['final_rows']:,} of them last of their run")
    render.table(
        [("family", "left"), ("rows", "right"), ("parameters", "right"), ("network", "left")],
        [[f["name"], f"{f['rows']:,}", f"{f['parameters']:,}", f["network"]] for f in summary["families"]],
    )
    print()
    render.table(
        [("column", "left"), ("missing", "right"), ("holds", "left")],
        [[column["name"], f"{column['missing']:,}", _holds(column)] for column in summary["columns"]],
    )
    split = summary["split"]
    if split is not None:
        sides = ", ".join(f"{split[side]['runs']:,} runs to {side}" for side in ("train", "test"))
        render.line(f"split of the last checkpoints by run, seed {split['seed']}: {sides}")


def _holds(column: Mapping[str, Any]) -> str:
    if column["range"] is not None:
        low, high = (f"{n:.0f}" if n == round(n) and abs(n) < 1e15 else f"{n:.6g}" for n in column["range"])
        return low if low == high else f"{low} to {high}"
    if column["values"] is not None:
        return ", ".join(column["values"])
    return "many words" if column["distinct"] is None else f"{column['distinct']:,} words"
