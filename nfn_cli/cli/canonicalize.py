"""cli/canonicalize.py: `nfn canonicalize`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import options as o


class Scale(str, Enum):
    """Choices of --scale; the same words as `nfn_cli.canonical.SCALES`."""

    balanced = "balanced"
    unit = "unit"
    pow2 = "pow2"
    equalize = "equalize"
    none = "none"


def canonicalize(
    input: o.Input,
    output: o.Output,
    scale: Annotated[Scale, typer.Option(help="Which member of the scale orbit.")] = Scale.balanced,
    sign: Annotated[bool, typer.Option("--sign/--no-sign", help="Settle signs (and phases of sin).")] = True,
    order: Annotated[bool, typer.Option("--order/--no-order", help="Sort the units.")] = True,
    fold_batchnorm: Annotated[
        bool, typer.Option("--fold-batchnorm", help="First let layers take up the batch norms behind them.")
    ] = False,
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
    """Write the canonical member of a network's orbit: the same function, one fixed choice of scale, sign and order.

    --scale balanced: least sum of squares. unit: incoming norm 1. pow2: powers of two nearest to balanced, outputs stay
    bit-identical with --no-order. equalize: equal ranges on both sides of every unit, for quantization (Nagel et al. 2019);
    behind a batch norm the range is that of the folded weight. relu6, silu and the like let no scale through: the units
    before them are named in a note and keep their ranges. none: leave it.

    --fold-batchnorm multiplies each batch norm into the convolution or linear layer before it. The program that loads the file
    still has its norms, so their tensors stay, as the identity (mean 0, variance 1, γ = √(1 + ε), β = 0); where a layer has
    no bias, its shift stays in β. Norms that follow no layer, or whose ε the file does not tell, are left and named.

    Before writing, the function is compared on random inputs; if it changed, nothing is written and the exit code is 1.
    Sorting is not continuous in the weights: to compare two networks, match them, do not compare their sorted forms.

    Examples:

      nfn canonicalize model.safetensors -o canonical.safetensors

      nfn canonicalize model.pth -o scaled.pth --activation relu --scale pow2 --no-order

      nfn canonicalize mobile.pt2 -o for_int8.pt2 --scale equalize --fold-batchnorm
    """
    from nfn_cli.api import canonicalize as canonical_form
    from nfn_cli.api import open_model
    from nfn_cli.canonical import CanonicalOptions
    from nfn_cli.checkpoint import check_outputs, save
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import WrongUsage
    from nfn_cli.symmetry import write_element

    session = Session("canonicalize", json)
    with session.watched(input):
        if fold_batchnorm and element is not None:
            raise WrongUsage("folding is no group element", where="--element", fix="leave out one of the two options")
        model = open_model(
            input, o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        )
        check_outputs(model.checkpoint, output, force=force)
        if element is not None:
            check_output(element, force)
        form = canonical_form(model, form=CanonicalOptions(scale.value, sign, order, fold_batchnorm))
        saved = save(form.checkpoint, output, force=force)
        if element is not None:
            write_element(form.element, element, force=force)
        notes = [*form.notes, *saved.notes, *(note for network in model.networks for note in network.notes)]
        for note in notes:
            session.note(note)
        if json:
            write_object(
                {
                    "schema": "nfn.canonicalize/1",
                    "path": input,
                    "output": str(saved.path),
                    "element": None if element is None else str(element),
                    "scale": scale.value,
                    "sign": sign,
                    "order": order,
                    "fold_batchnorm": fold_batchnorm,
                    "relative_change": form.relative_change,
                    "tolerance": form.tolerance,
                    "notes": notes,
                }
            )
        else:
            render.line(f"{saved.path}: same function (relative change {form.relative_change:.1e})")
    session.end()
