"""cli/fit_inr.py: `nfn fit-inr`: INRs made from pictures. Parses, calls, renders."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.zoo.picture_fit import PictureFit

_FIT, _MACHINE = "The fit", "The machine"


def fit_inr(
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Picture files, or - for a list on stdin.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File for one picture; a folder for several, made where missing.", show_default=False
        ),
    ],
    hidden: i.Hidden = "32,32",
    omega: Annotated[
        str,
        typer.Option("--omega", metavar="W[,W…]", help="ω of all sine layers, or of each.", rich_help_panel=i.NETWORK),
    ] = "30",
    gray: Annotated[
        Optional[bool],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option(
            "--gray/--color", help="One channel or three.  [default: as the picture]", rich_help_panel=i.NETWORK
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, max=10**6, help="At most.", rich_help_panel=_FIT)] = 500,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Adam's; falls to 0 along a cosine.", rich_help_panel=_FIT)
    ] = 0.005,
    psnr: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--psnr", help="Stop at this many dB.  [default: go on to the end]", rich_help_panel=_FIT),
    ] = None,
    size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--size", min=1, help="Make the longer side this long, if it is longer.", rich_help_panel=_FIT),
    ] = None,
    pixels: Annotated[
        str, typer.Option("--range", metavar="LOW,HIGH", help="Values of black and white.", rich_help_panel=_FIT)
    ] = "0,1",
    coordinates: i.CoordinatesOption = i.DEFAULT_COORDINATES,
    device: i.Device = "auto",
    threads: i.Threads = 0,
    seed: o.Seed = 0,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Make INRs from pictures: networks of sines that take a pixel's coordinates to its value (SIREN, Sitzmann et al. 2020).

    Pictures of one size are fitted together. The files say their ω, size, range and coordinates, so that the other commands need
    no options. What becomes of a picture depends on it, the options and the seed, not on the pictures beside it.

    A folder of INRs that was begun by the same command is continued: what is there and was made in the same way is kept.

    Examples:

      nfn fit-inr digit.png -o digit.safetensors

      ls photos/*.jpg | nfn fit-inr - -o inrs --hidden 64,64,64 --size 128 --psnr 35 --json
    """
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.render import as_they_are
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.cli.work_progress import cores, device_of, waiting, work_progress
    from nfn_cli.zoo import picture_fit, pictures
    from nfn_cli.zoo.training_run import Progress

    session = Session("fit-inr", json)
    how = _fit(hidden, omega, steps, learning_rate, psnr, pixels, coordinates, seed)
    where = device_of(device)
    paths = list(expanded(inputs))
    targets = _targets(paths, output)
    read: dict[str, Any] = {}
    answers: dict[str, dict[str, Any]] = {}
    failed: dict[str, Any] = {}
    for path in paths:
        with session.collected(path, failed):
            read[path] = pictures.read_picture(path, grey=gray, longest=size)
            kept = None if force else picture_fit.kept_psnr(targets[path], read[path], how)
            if kept is not None:
                answers[path] = _answer(path, targets[path], read[path], kept, None)
            elif not force:
                check_output(targets[path], force=False)
    by_shape: dict[tuple[int, ...], list[str]] = {}
    work = [path for path in read if path not in answers and path not in failed]
    for path in work:
        by_shape.setdefault(read[path].shape, []).append(path)
    shown = work_progress("fitting {} pictures") if len(work) > 1 else Progress()
    shown.begin(sum(picture.size for picture in read.values()), sum(read[path].size for path in answers), len(work))
    for group in (some for found in by_shape.values() for some in _batches(found, read)):

        def advance(count: int, each: int = read[group[0]].size) -> None:
            shown.advance(count * each)

        with waiting("fit-inr") if len(work) == 1 else nullcontext():
            fitted = picture_fit.fit_pictures(
                [read[path] for path in group], how, device=where, threads=threads or cores(), advance=advance
            )
        for path, one in zip(group, fitted, strict=True):
            with session.collected(path, failed):
                picture_fit.write_inr(targets[path], one, force)
                answers[path] = _answer(path, targets[path], read[path], one.psnr, one.steps)
    shown.end()
    for path in paths:
        if path in failed:
            session.fail(path, failed[path])
        elif json:
            write_object(answers[path])
        else:
            found = answers[path]
            how_many = "was there" if found["steps"] is None else f"{found['steps']} steps"
            as_they_are([f"{path} -> {found['output']}: {found['psnr']:.2f} dB, {how_many}"])
    session.end()


def _fit(
    hidden: str,
    omega: str,
    steps: int,
    rate: float,
    psnr: float | None,
    pixels: str,
    coordinates: str,
    seed: int,
) -> PictureFit:
    from nfn_cli.errors import WrongUsage
    from nfn_cli.zoo.picture_fit import PictureFit

    widths = i.widths_of(hidden)
    if not 0 < rate < 10:
        raise WrongUsage("must be between 0 and 10", where="--learning-rate")
    if psnr is not None and not 0 < psnr < 200:
        raise WrongUsage("must be between 0 and 200 dB", where="--psnr")
    low, high = i.pair_of(pixels, "--range")
    return PictureFit(
        widths, i.omegas_of(omega, len(widths)), steps, rate, psnr, low, high, i.coordinates_of(coordinates), seed
    )


def _targets(paths: list[str], output: Path) -> dict[str, Path]:
    """Where each picture's INR goes.

    Raises:
        WrongUsage: two would have one name, or a picture is named twice.
        SurroundingsFailed: the folder cannot be made.
    """
    from nfn_cli.cli.output_files import output_files
    from nfn_cli.errors import WrongUsage
    from nfn_cli.printable import printable

    if (len(paths) > 1 or output.is_dir()) and output.suffix == ".safetensors":
        raise WrongUsage("several pictures go into a folder", where=printable(output), fix="name one with --output")
    return output_files(
        paths, output, lambda path: f"{Path(path).stem}.safetensors", "pictures", "fit them into two folders"
    )


_PIXELS_AT_ONCE = 1 << 22


def _batches(group: list[str], read: dict[str, Any]) -> list[list[str]]:
    """As many pictures at a time as memory is well spent on; what is done is written before the next."""
    size = max(1, min(256, _PIXELS_AT_ONCE // read[group[0]].size))
    return [group[start : start + size] for start in range(0, len(group), size)]


def _answer(path: str, target: Path, picture: Any, psnr: float, steps: int | None) -> dict[str, Any]:
    height, width, channels = picture.shape
    return {
        "schema": "nfn.fit-inr/1",
        "path": path,
        "output": str(target),
        "height": height,
        "width": width,
        "channels": channels,
        "psnr": round(psnr, 2),
        "steps": steps,
        "fitted_now": steps is not None,
    }
