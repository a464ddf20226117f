"""cli/align.py: `nfn align`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import data_options as d
from nfn_cli.cli import options as o


def align(
    input: o.Input,
    to: Annotated[str, typer.Option("--to", metavar="CKPT", help="The checkpoint to approach.", show_default=False)],
    output: o.Output,
    restarts: Annotated[
        int, typer.Option(help="Further searches from random elements; the best one counts.", min=0)
    ] = 0,
    seed: o.Seed = 0,
    keep_scales: Annotated[
        bool, typer.Option("--keep-scales", help="Rescale nothing; compare weights as they are, statistics left out.")
    ] = False,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data", help="Match units by their responses to these inputs: image set, npz, npy.", show_default=False
        ),
    ] = None,
    pixels: d.Pixels = (-1.0, 1.0),
    rows: d.Rows = 1000,
    element: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--element", help="Also write the group element that was applied.", show_default=False),
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
    """Write a network in another's frame: the same function, with units ordered, scaled and signed to agree best with it.

    Exact assignments of units alternate with exact steps for signs and scales; the objective (squared distance of the
    weights in balanced form) never increases. With --data the units with the most correlated responses are matched instead,
    and weights settle scales and signs only. Aligned is not the same as corresponding: of networks trained apart,
    many units have no counterpart, and averaging them is not promised to work.

    Before writing, the function is compared on random inputs; if it changed, nothing is written and the exit code is 1.

    Examples:

      nfn align model.safetensors --to reference.safetensors -o aligned.safetensors

      nfn align a.pth --to b.pth -o a-aligned.pth --activation relu --restarts 5 --seed 1

      nfn align a.pt2 --to b.pt2 -o a-aligned.pt2 --data images.npz
    """
    from nfn_cli.api import align as align_to
    from nfn_cli.api import open_model
    from nfn_cli.checkpoint import check_outputs, save
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.symmetry import write_element

    session = Session("align", json)
    with session.watched(input):
        how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        model, other = open_model(input, how), open_model(to, how)
        check_outputs(model.checkpoint, output, force=force)
        if element is not None:
            check_output(element, force)
        done = align_to(
            model,
            other,
            restarts=restarts,
            seed=seed,
            keep_scales=keep_scales,
            data=data,
            pixels=pixels,
            rows=rows,
        )
        saved = save(done.checkpoint, output, force=force)
        if element is not None:
            write_element(done.element, element, force=force)
        notes = [*saved.notes, *done.notes, *(note for network in model.networks for note in network.notes)]
        for note in notes:
            session.note(note)
        if json:
            write_object(
                {
                    "schema": "nfn.align/1",
                    "path": input,
                    "to": to,
                    "output": str(saved.path),
                    "element": None if element is None else str(element),
                    "restarts": restarts,
                    "seed": seed,
                    "keep_scales": keep_scales,
                    "data": None if data is None else str(data),
                    "objective": done.objective,
                    "start": done.start,
                    "distance": done.distance,
                    "relative_change": done.relative_change,
                    "tolerance": done.tolerance,
                    "notes": notes,
                }
            )
        else:
            render.line(
                f"{saved.path}: same function (relative change {done.relative_change:.1e}); squared distance "
                f"{done.start:.4g} before, {done.objective:.4g} after"
            )
    session.end()
