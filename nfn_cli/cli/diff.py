"""cli/diff.py: `nfn diff`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o


def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="A checkpoint: a file, DIR#row of a zoo, hf://….")],
    right: Annotated[str, typer.Argument(metavar="B", help="The checkpoint to compare it with.")],
    tolerance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--tol",
            metavar="X",
            help="Largest residual of a unit that counts as the same; default: what rounding to their element types does.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        str,
        typer.Option("--units", metavar="N|all", help="Units that differ to list in the table, widest change first."),
    ] = "20",
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
) -> None:
    """Tell how two networks differ, unit by unit, after the permutations, scales, signs and phases that bring them closest.

    The architectures must agree up to their widths. Where widths differ, as many units are matched as both have. A unit is
    the same if all that feeds it (incoming weights, bias, norm) agrees within --tol, wherever it stands; changed if not;
    added or removed if it has no counterpart; split if several units of B share what one of A does, merged the other way
    round; died if something depends on it in A only, revived if in B only; dead if in neither. Where one network has more
    units, those that are fed nearly alike (a tenth) count as the parts of one.

    Distances are relative, 0 to 2, over what both networks have, in balanced scale. What reads a unit counts for those
    who read it. Dead units and repeats are set aside first, as nfn reduce does.

    Exit code 0: the comparison was made, whatever it found (for yes or no, see nfn equivalent). Exit code 3: more than widths
    differs, or units that only move in groups cannot be matched partially. Networks trained apart have no units in common:
    there every unit is changed, and which is matched with which says little.

    Examples:

      nfn diff model.safetensors tuned.safetensors

      nfn diff model.pth pruned.pth --activation relu --units all

      nfn diff a.safetensors b.safetensors --tol 0.05 --json
    """
    from nfn_cli.api import diff as compare
    from nfn_cli.api import open_model
    from nfn_cli.cli import render_diff
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session

    session = Session("diff", json)
    with session.watched(left):
        shown = _limit(units)
        how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        models = open_model(left, how), open_model(right, how)
        answer = compare(*models, tolerance=tolerance).as_json(left, right)
        answer["notes"] += dict.fromkeys(
            note for model in models for network in model.networks for note in network.notes
        )
        for note in answer["notes"]:
            session.note(note)
        if json:
            write_object(answer)
        else:
            render_diff.difference(answer, shown)
    session.end()


def _limit(units: str) -> int | None:
    """How many units to list; None: all."""
    from nfn_cli.errors import WrongUsage

    if units == "all":
        return None
    if not (units.isascii() and units.isdigit()):
        raise WrongUsage(
            f"{units!r} is no number of units", where="--units", fix="a number, or all", code="wrong-usage"
        )
    return int(units)
