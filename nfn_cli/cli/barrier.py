"""cli/barrier.py: `nfn barrier`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import data_options as d
from nfn_cli.cli import options as o


def barrier(
    left: Annotated[str, typer.Argument(metavar="A", help="A checkpoint; its frame is the one of the line.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Another one of the same architecture.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="What both are run on: an image set, an npz (inputs, labels), an npy.", show_default=False
        ),
    ],
    points: Annotated[int, typer.Option(help="Networks on each line, both ends with them.", min=3)] = 11,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="FILE.png|svg", help="Also draw the curves.", show_default=False),
    ] = None,
    batch_norm_data: d.BatchNormData = None,
    batch_norm: d.BatchNorm = "recompute",
    pixels: d.Pixels = (-1.0, 1.0),
    rows: d.Rows = 1000,
    match: d.Match = "weights",
    restarts: d.Restarts = 0,
    seed: o.Seed = 0,
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
    """Show the loss on the straight line between two networks: between their weights as they are, and after alignment.

    The barrier is the largest loss above the straight line between the losses of the ends: near 0 where the two, once aligned,
    may be averaged (nfn merge). Aligned is not the same as corresponding, so it often is not.

    The loss is cross-entropy where the data have labels and the network has classes, squared error where it answers one number.
    Without labels it is the squared distance to the answers between those of the ends. Batch norm statistics are measured
    again at every point, the ends with them, on --batch-norm-data or --data.

    With --match activations units are matched by their responses to the data, as nfn align --data does.

    Running a network needs all that it computes; where names alone do not tell (strides, ε), --arch does.

    Examples:

      nfn barrier a.safetensors b.safetensors --data images.npz

      nfn barrier a.pt2 b.pt2 --data test.npz --batch-norm-data train.npz --pixels 0 1 --plot barrier.png --json
    """
    from nfn_cli.api import barrier as barrier_between
    from nfn_cli.api import open_model
    from nfn_cli.cli import render_barrier
    from nfn_cli.cli.chart_file import check_chart, write_chart
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.cli.work_progress import stages
    from nfn_cli.match.barrier import SCHEMA

    session = Session("barrier", json)
    with session.guarded(left), stages("barrier") as told:
        if plot is not None:
            check_chart(plot, force)
        how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        models = open_model(left, how), open_model(right, how)
        found = barrier_between(
            *models,
            data=data,
            batch_norm_data=batch_norm_data,
            batch_norm=batch_norm,
            points=points,
            pixels=pixels,
            rows=rows,
            match=match,
            restarts=restarts,
            seed=seed,
            progress=told,
        )
        notes = list(dict.fromkeys(note for model in models for network in model.networks for note in network.notes))
        answer = {
            "schema": SCHEMA,
            "path": left,
            "to": right,
            "data": str(data),
            "batch_norm_data": None if batch_norm_data is None else str(batch_norm_data),
            "match": match,
            "restarts": restarts,
            "seed": seed,
            "plot": None if plot is None else str(plot),
            **found.as_json(),
            "notes": notes,
        }
        if plot is not None:
            write_chart(render_barrier.chart(answer), plot, force=force)
        for note in notes:
            session.note(note)
        if json:
            write_object(answer)
        else:
            render_barrier.curves(answer)
    session.end()
