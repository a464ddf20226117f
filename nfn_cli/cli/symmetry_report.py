"""cli/symmetry_report.py: `nfn symmetry-report`."""

from __future__ import annotations

from typing import Annotated

import typer

from nfn_cli.cli import options as o


def symmetry_report(
    inputs: o.Inputs,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    elements: Annotated[int, typer.Option(help="Random group elements to check with.", min=0, max=1000)] = 3,
    norms: Annotated[bool, typer.Option("--norms", help="Also norms of the weights, raw and orbit-invariant.")] = False,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Find the symmetry group of a network and prove it numerically.

    Per set of hidden units: its size and group, the tensors and axes it acts on, dead, constant and duplicate units.
    For the network: group order, parameters, effective parameters, parts that are not understood and therefore frozen.

    Beyond that group: biases that a normalization takes away or another bias can do the work of, GL(n) between linear
    layers, rotations before layer norms, reflections of sigmoid, relu6 and learned slopes. They are counted apart, running
    means and variances being parameters there, and tested in the same runs.

    --norms: Frobenius and spectral norm of every layer, their products, Σ‖W‖², stable ranks and the PAC-Bayes spectral
    complexity, each raw and orbit-invariant, and path norms. Raw ones move when units are rescaled though the function
    stays; invariant ones are of the balanced form, with batch norms folded into the layer before them. A convolution's
    spectral norm is that of its weight as a matrix (outputs × inputs·kernel); its operator norm is at most √kernel times it.

    Examples:

      nfn symmetry-report model.safetensors

      nfn symmetry-report actor.pth --activation tanh --json

      nfn symmetry-report model.safetensors --norms

      ls *.pt | nfn symmetry-report - --activation relu --json
    """
    from nfn_cli.api import open_model, weight_norms
    from nfn_cli.api import symmetry_report as report
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import ExitCode

    session = Session("symmetry-report", json)
    names = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    shown = 0

    def handle(path: str) -> None:
        nonlocal shown
        model = open_model(path, names)
        answer = report(model, seed=seed, elements=elements)
        shown_as = answer.as_json()
        if norms:
            for network, found in zip(shown_as["networks"], weight_norms(model), strict=True):
                network["norms"] = found.as_json()
        if json:
            write_object(shown_as)
        else:
            from nfn_cli.cli import render

            if shown:
                render.line("")
            render.symmetry(shown_as)
            shown += 1
        if not answer.passed:
            session.code = max(session.code, int(ExitCode.ANSWER_IS_NO))

    session.each(inputs, handle)
    session.end()
