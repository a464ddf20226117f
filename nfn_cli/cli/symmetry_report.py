"""cli/symmetry_report.py: `nfn symmetry-report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.cli.network_picture.html_page import Answered, Failed


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
    plot: Annotated[
        Optional[Path],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option("--plot", metavar="FILE.svg|png", help="Also draw the network.", show_default=False),
    ] = None,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--html", metavar="FILE.html", help="Also a page with pictures and tables.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --plot and --html if they exist.")] = False,
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

    --plot draws layers in their order, each set of units in a colour of its own along the axes it acts on, with its group, the
    ratio of incoming to outgoing norm of every unit, and what is dead, constant, repeated or frozen. --html is one page for all
    checkpoints with the same pictures and the units by number; it needs no network and runs no script.

    Examples:

      nfn symmetry-report model.safetensors

      nfn symmetry-report actor.pth --activation tanh --json

      nfn symmetry-report model.safetensors --norms

      nfn symmetry-report model.safetensors --plot network.svg --html report.html

      ls *.pt | nfn symmetry-report - --activation relu --json
    """
    from nfn_cli.api import open_model, weight_norms
    from nfn_cli.api import symmetry_report as report
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.errors import ExitCode, NfnError

    session = Session("symmetry-report", json)
    names = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    shown = 0
    pages: list[Answered | Failed] = []
    paths = list(expanded(inputs))
    if plot is not None or html is not None:
        from nfn_cli.cli.network_picture.written import check_files

        with session.guarded(", ".join(paths)):
            check_files(plot, html, len(paths), force)
        if session.code:
            session.end()

    def handle(path: str) -> None:
        nonlocal shown
        try:
            model = open_model(path, names)
            answer = report(model, seed=seed, elements=elements)
        except NfnError as error:
            if html is not None:
                from nfn_cli.cli.network_picture.html_page import Failed

                pages.append(Failed(path, str(error)))
            raise
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
        if plot is not None or html is not None:
            from nfn_cli.cli.network_picture.drawn_report import drawn
            from nfn_cli.cli.network_picture.html_page import Answered

            networks = drawn(model, answer)
            if html is not None:
                pages.append(Answered(answer, networks))
            if plot is not None:
                from nfn_cli.cli.network_picture.written import write_picture

                write_picture(answer, networks, plot, force=force)
        if not answer.passed:
            session.code = max(session.code, int(ExitCode.ANSWER_IS_NO))

    session.each(paths, handle)
    if html is not None:
        from nfn_cli.cli.network_picture.html_page import html_page
        from nfn_cli.cli.network_picture.written import write_page

        with session.guarded(str(html)):
            write_page(html_page(pages), html, force=force)
    session.end()
