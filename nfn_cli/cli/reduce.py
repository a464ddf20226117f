"""cli/reduce.py: `nfn reduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.canonical.reduction import Reduced, ReduceOptions


def reduce(
    input: o.Input,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="File to write, unless --dry-run; never the input.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what could be removed.")] = False,
    input_range: Annotated[
        Optional[tuple[float, float]],  # noqa: UP045
        typer.Option(
            "--input-range",
            metavar="LOW HIGH",
            help="Also remove relu units that are off for all inputs with entries in this range.",
            show_default=False,
        ),
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Also merge what is linear: always-on units, layers in a row.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="Relative distance of incoming rows that counts as none; 0: rounding.", min=0.0)
    ] = 0.0,
    certificate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--certificate", help="Where to write what was removed; default: OUT.certificate.json.", show_default=False
        ),
    ] = None,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Write a smaller network that computes the same function: without dead, constant and repeated units.

    Removed are units that nothing depends on, units that nothing feeds (their constant goes into the next bias), and units
    that repeat another up to what the activation lets pass: a positive factor for relu, a sign for tanh, a phase for sin.
    Where residual sums, concatenations or groups tie units together, they go together or stay.

    With --input-range the result computes the same function for inputs in that range. --tolerance above 0 also merges
    units that are nearly multiples of each other; the outputs still have to agree.

    Before writing, both networks are run on the same random inputs; if outputs changed, nothing is written and the exit code
    is 1. The certificate (JSON) lists every removed unit, the rule, and how far it was from exact. Nothing is retrained.

    Examples:

      nfn reduce model.safetensors -o small.safetensors

      nfn reduce model.pth --activation relu --dry-run --input-range 0 1 --json
    """
    from nfn_cli.api import open_model
    from nfn_cli.api import reduce as reduced
    from nfn_cli.canonical.reduction import ReduceOptions
    from nfn_cli.checkpoint import check_outputs, save
    from nfn_cli.checkpoint.atomic_write import atomic_output, check_output
    from nfn_cli.cli.jsonl import text_of, write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage

    session = Session("reduce", json)
    with session.watched(input):
        if (output is None) != dry_run:
            raise WrongUsage("needs either -o OUT or --dry-run", code="wrong-usage")
        how = ReduceOptions(input_range, linear, tolerance)
        model = open_model(
            input, o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        )
        if output is not None:
            check_outputs(model.checkpoint, output, force=force)
            certificate = certificate or output.with_name(f"{output.name}.certificate.json")
        if certificate is not None:
            check_output(certificate, force)
        form = reduced(model, how=how, writable=not dry_run)
        notes = [*form.notes, *(note for network in model.networks for note in network.notes)]
        written: str | None = None
        if output is not None:
            saved = save(form.checkpoint, output, force=force)
            written, notes = str(saved.path), [*notes, *saved.notes]
        answer = _answer(input, written, certificate, how, form, notes)
        if certificate is not None:
            with atomic_output(certificate, force) as handle:
                handle.write(text_of(answer).encode() + b"\n")
        for note in notes:
            session.note(note)
        if json:
            write_object(answer)
        else:
            _show(answer)
    session.end()


def _answer(
    path: str, output: str | None, certificate: Path | None, how: ReduceOptions, form: Reduced, notes: list[str]
) -> dict[str, Any]:
    """One object for standard output and for the certificate."""
    from nfn_cli.canonical.reduction import RULES

    counts = dict.fromkeys(RULES, 0)
    for unit in form.removed:
        counts[unit.rule] += 1
    return {
        "schema": "nfn.reduce/1",
        "path": path,
        "output": output,
        "certificate": None if certificate is None else str(certificate),
        "input_range": None if how.input_range is None else list(how.input_range),
        "linear": how.linear,
        "row_tolerance": how.tolerance,
        "units_removed": len(form.removed),
        "by_rule": counts,
        "parameters_before": form.parameters[0],
        "parameters_after": form.parameters[1],
        "axes": [
            {"tensor": axis.tensor, "axis": axis.axis, "before": axis.before, "after": axis.after} for axis in form.axes
        ],
        "removed": [unit.as_json() for unit in form.removed],
        "relative_change": form.relative_change,
        "tolerance": form.tolerance,
        "notes": notes,
    }


def _show(answer: dict[str, Any]) -> None:
    from nfn_cli.cli import render

    counts: dict[tuple[str, int], dict[str, int]] = {}
    for unit in answer["removed"]:
        rules = counts.setdefault((unit["tensor"], unit["axis"]), {})
        rules[unit["rule"]] = rules.get(unit["rule"], 0) + 1
    lengths = {(axis["tensor"], axis["axis"]): (axis["before"], axis["after"]) for axis in answer["axes"]}
    rows = []
    for place, rules in counts.items():
        before, after = lengths.get(place, ("", ""))
        why = ", ".join(f"{count} {rule}" for rule, count in rules.items())
        rows.append([place[0], str(before), str(after), why])
    if rows:
        render.table([("units of", "left"), ("before", "right"), ("after", "right"), ("removed", "left")], rows)
    what = answer["output"] or answer["path"]
    removed = answer["units_removed"]
    where = "for inputs in [{:g}, {:g}] ".format(*answer["input_range"]) if answer["input_range"] else ""
    units = f"{removed} unit{'' if removed == 1 else 's'} {'removed' if answer['output'] else 'can be removed'}"
    render.line(
        f"{what}: {units}, {answer['parameters_before']:,} → {answer['parameters_after']:,} parameters, same function "
        f"{where}(relative change {answer['relative_change']:.1e})"
    )
