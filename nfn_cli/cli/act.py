"""cli/act.py: `nfn act`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o


def act(
    input: o.Input,
    output: o.Output,
    element: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--element", help="Group element to apply, as written by canonicalize.", show_default=False),
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Apply its inverse.")] = False,
    random: Annotated[bool, typer.Option("--random", help="Apply a random element instead.")] = False,
    windings: Annotated[
        int,
        typer.Option(
            help="Largest phase shift of sin and cos with --random, in multiples of π/ω.", min=0, max=1_000_000
        ),
    ] = 3,
    seed: o.Seed = 0,
    write_element_to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--element-out", help="Also write the element that was applied.", show_default=False),
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
    """Apply a group element to a network: the same function in other weights.

    Before writing, the function is compared on random inputs; if it changed, nothing is written and the exit code is 1.

    Examples:

      nfn act canonical.safetensors -o back.safetensors --element applied.safetensors --inverse

      nfn act model.safetensors -o disguised.safetensors --random --seed 7

      nfn act siren.safetensors -o disguised.safetensors --random --windings 40 --activation sin --omega 30
    """
    from nfn_cli.api import act as act_on
    from nfn_cli.api import open_model
    from nfn_cli.canonical import verify
    from nfn_cli.checkpoint import check_finite, check_outputs, save
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import AnswerIsNo, WrongUsage
    from nfn_cli.symmetry import random_element, read_element, write_element

    session = Session("act", json)
    with session.watched(input):
        if (element is None) == (not random):
            raise WrongUsage("needs either --element FILE or --random", code="wrong-usage")
        model = open_model(
            input, o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        )
        check_outputs(model.checkpoint, output, force=force)
        if write_element_to is not None:
            check_output(write_element_to, force)
        check_finite(model.checkpoint, [n for network in model.networks for n in network.graph.parameter_shapes])
        applied = (
            random_element(model.checkpoint, model.networks, seed=seed, windings=windings)
            if element is None
            else read_element(element)
        )
        applied = applied.inverse() if inverse else applied
        changed = act_on(applied, model)
        proof = verify(model.checkpoint, changed, model.networks)
        if not proof.passed:
            raise AnswerIsNo(
                f"the outputs would change by {proof.relative_change:.2g} (allowed {proof.tolerance:.2g})",
                where=input,
                fix="nothing was written",
                code="verification-failed",
            )
        saved = save(changed, output, force=force)
        if write_element_to is not None:
            write_element(applied, write_element_to, force=force)
        for note in saved.notes:
            session.note(note)
        if json:
            write_object(
                {
                    "schema": "nfn.act/1",
                    "path": input,
                    "output": str(saved.path),
                    "element": str(element) if element is not None else None,
                    "inverse": inverse,
                    "seed": seed if random else None,
                    "relative_change": proof.relative_change,
                    "tolerance": proof.tolerance,
                    "notes": list(saved.notes),
                }
            )
        else:
            render.line(f"{saved.path}: same function (relative change {proof.relative_change:.1e})")
    session.end()
