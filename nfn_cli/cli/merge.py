"""cli/merge.py: `nfn merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import data_options as d
from nfn_cli.cli import options as o


def merge(
    inputs: o.Inputs,
    output: o.Output,
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--weights",
            metavar="W,W,…",
            help="One positive number for each network; their ratio counts. Default: equal.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data",
            help="Images or arrays to run: an image set, an npz (inputs, labels), an npy.",
            show_default=False,
        ),
    ] = None,
    batch_norm_data: d.BatchNormData = None,
    batch_norm: d.BatchNorm = "recompute",
    pixels: d.Pixels = (-1.0, 1.0),
    rows: d.Rows = 1000,
    rounds: Annotated[
        int,
        typer.Option(
            help="Of three or more: align each to the mean of the others, at most so often.",
            min=0,
            rich_help_panel=d.ALIGNING,
        ),
    ] = 10,
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
    """Write the weighted mean of networks of one architecture, each brought into the frame of the first.

    Averaging after alignment is not promised to work: aligned is not the same as corresponding. Of networks trained apart many
    units have no counterpart, and their mean may be worse than each of them, or useless. nfn barrier says so beforehand; --data
    with labels says how the mean does beside its members.

    Each network is aligned to the first (see nfn align). Three or more are then aligned to the mean of the others, until their
    spread no longer shrinks. How the files were rescaled, flipped or reordered before does not matter. Integers, and tensors that
    no network uses, are those of the first, as are container, metadata and element types.

    With --match activations units are matched by their responses to the data (nfn align --data), each network with the first only.

    Running statistics of batch norms do not average: the mean of features varies less than they do. With --data they are
    measured again, as training with momentum=None would over one pass; batches are as large as memory allows.

    Examples:

      nfn merge a.safetensors b.safetensors -o merged.safetensors

      nfn merge a.pth b.pth c.pth -o merged.pth --activation relu --weights 0.5,0.3,0.2

      nfn merge a.pt2 b.pt2 -o merged.pt2 --data test.npz --batch-norm-data train.npz --pixels 0 1 --json
    """
    from nfn_cli.api import merge as merge_models
    from nfn_cli.api import open_model
    from nfn_cli.checkpoint import check_outputs, save
    from nfn_cli.cli import render_merge
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.match.merge_result import SCHEMA

    session = Session("merge", json)
    with session.watched(", ".join(inputs)):
        how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        parts = d.numbers(weights, "--weights")
        models = [open_model(path, how) for path in expanded(inputs)]
        for model in models:
            check_outputs(model.checkpoint, output, force=force)
        merged = merge_models(
            models,
            weights=parts,
            data=data,
            batch_norm_data=batch_norm_data,
            batch_norm=batch_norm,
            pixels=pixels,
            rows=rows,
            rounds=rounds,
            match=match,
            restarts=restarts,
            seed=seed,
        )
        saved = save(merged.checkpoint, output, force=force)
        answer = {
            "schema": SCHEMA,
            "path": merged.members[0].path,
            "output": str(saved.path),
            "data": None if data is None else str(data),
            "batch_norm_data": None if batch_norm_data is None else str(batch_norm_data),
            "match": match,
            "restarts": restarts,
            "seed": seed,
            **merged.as_json(),
        }
        answer["notes"] += [*saved.notes, *(note for network in models[0].networks for note in network.notes)]
        for note in answer["notes"]:
            session.note(note)
        if json:
            write_object(answer)
        else:
            render_merge.merged(answer)
    session.end()
