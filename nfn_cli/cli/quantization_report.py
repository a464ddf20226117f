"""cli/quantization_report.py: `nfn quantization-report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o


def quantization_report(
    inputs: o.Inputs,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data", help="Images or arrays to run: an image set, an npz (inputs, labels), an npy.", show_default=False
        ),
    ] = None,
    bits: Annotated[int, typer.Option("--bits", help="Of a weight, from 2 to 16.")] = 8,
    pixels: Annotated[
        tuple[float, float], typer.Option("--pixels", metavar="LOW HIGH", help="What 0 and 255 become.")
    ] = (-1.0, 1.0),
    rows: Annotated[int, typer.Option("--rows", help="Inputs to run at most.", min=1)] = 1000,
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
    """Report what integer weights cost a network, as it is and in forms that compute the same function.

    Weights of linear layers and convolutions are rounded, each with one symmetric step; biases and norms are not. For every
    weight: the signal-to-noise ratio in dB, and how much of the weight's range its output channels use (1: all of it).

    Forms: as-is; balanced (least sum of squares); equalize (equal ranges on both sides of every unit); equalize-folded (layers
    take up their batch norms first, as integer inference does). `nfn canonicalize` writes them, with --fold-batchnorm the last.

    With --data the rounded networks are run: change of the outputs, and accuracy where there are labels. That needs all that
    the network computes; where names alone do not tell (strides, ε), the reason is given, and --arch settles it.

    Functions that let no scale through (relu6, silu, …) leave the units before them as they are: they are named in a note.

    Examples:

      nfn quantization-report model.safetensors

      nfn quantization-report mobile.pt2 --data images.npz --pixels 0 1 --json
    """
    from nfn_cli.api import open_model
    from nfn_cli.api import quantization_report as report_of
    from nfn_cli.cli import render_quantization
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session

    session = Session("quantization-report", json)
    names = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)

    def handle(path: str) -> None:
        model = open_model(path, names)
        report = report_of(model, data=data, bits=bits, pixels=pixels, rows=rows)
        answer = report.as_json(path)
        answer["notes"] += [note for network in model.networks for note in network.notes]
        for note in answer["notes"]:
            session.note(note)
        if json:
            write_object(answer)
        else:
            render_quantization.report(answer)

    session.each(inputs, handle)
    session.end()
