"""cli/zoo_fit_inrs.py: `nfn zoo fit-inrs`: an image set as a zoo of INRs. Parses, calls, renders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o

_PICTURES = "The pictures"


def fit_inrs(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the zoo; one begun earlier is continued.", show_default=False),
    ],
    dataset: Annotated[
        Path,
        typer.Option(
            "--dataset",
            help="Images: a folder with train.npz and test.npz, an npz, IDX files, or folders of image files.",
            show_default=False,
        ),
    ],
    train: Annotated[
        Optional[int],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option("--train", min=1, help="Training images, drawn.  [default: all]", rich_help_panel=_PICTURES),
    ] = None,
    test: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--test", min=1, help="Test images, drawn.  [default: all]", rich_help_panel=_PICTURES),
    ] = None,
    gray: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--gray/--color", help="One channel or three.  [default: as the images]", rich_help_panel=_PICTURES
        ),
    ] = None,
    hidden: i.Hidden = "32,32",
    omega: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--omega",
            help="Of every layer.  [default: 30, in a fifth of the groups 10 to 50]",
            rich_help_panel=i.NETWORK,
        ),
    ] = None,
    alike: Annotated[
        bool, typer.Option("--alike", help="All by one recipe, as in published sets: SIREN's, for all the steps.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of a fit, at most.")] = 600,
    group_size: Annotated[int, typer.Option("--group-size", min=1, help="Fits of a shard.")] = 512,
    device: i.Device = "auto",
    threads: i.Threads = 0,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Fit one INR to every image of a set, thousands at a time, into a zoo.

    So that what is trained on the zoo meets what other people's fits look like, they differ: initialization, learning rate, PSNR
    at which they stop (20 to 60 dB), pixel values in [0, 1], [−1, 1] or standardized, coordinates of pixel centres or from edge
    to edge, ω. With --alike nothing differs but the image and the numbers at the start. Every row says how it was made, its label,
    and whether its image is a training or a test image (column `split`).

    A run that was stopped goes on when the same command is given again.

    Examples:

      nfn zoo fit-inrs --dataset mnist -o inrs

      nfn zoo fit-inrs --dataset cifar10 --train 20000 --test 4000 --steps 400 -o inrs-cifar10 --json
    """
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.render import as_they_are
    from nfn_cli.cli.session import Session
    from nfn_cli.cli.work_progress import cores, device_of, work_progress
    from nfn_cli.zoo.images import read_images
    from nfn_cli.zoo.inr_making import InrPlan, make_inr_zoo

    session = Session("zoo-fit-inrs", json)
    with session.guarded(str(output)):
        data = read_images(dataset, gray)
        plan = InrPlan(seed, i.widths_of(hidden), _omega(omega), steps, train, test, group_size, alike)
        fits, now = make_inr_zoo(
            output,
            plan,
            data,
            device=device_of(device),
            threads=threads or cores(),
            progress=work_progress("fitting {} images"),
        )
        answer = {"schema": "nfn.zoo-fit-inrs/1", "path": str(output), "networks": fits, "fitted_now": now}
        if json:
            write_object(answer)
        else:
            as_they_are([f"{output}: {fits} INRs, {now} of them fitted now"])
    session.end()


def _omega(omega: float | None) -> float | None:
    from nfn_cli.errors import WrongUsage

    if omega is not None and not 0 < omega < 1e6:
        raise WrongUsage("must be a positive number", where="--omega")
    return omega
