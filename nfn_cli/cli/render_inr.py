"""cli/render_inr.py: `nfn render`: what INRs show, as PNG. Parses, calls, renders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.zoo.inr_picture import Rendered


def render(
    inputs: o.Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.", show_default=False)],
    size: Annotated[
        Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option("--size", metavar="N|HEIGHTxWIDTH", help="In pixels.  [default: as the file says, else 128]"),
    ] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="Of the grid, for several.")] = 8,
    pixels: i.Range = None,
    coordinates: i.StatedCoordinates = None,
    activation: o.Activation = None,
    omega: o.Omega = None,
    layers: o.Layers = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Draw what an INR shows as a PNG; several become a grid, in the order in which they are named.

    An INR takes two coordinates to a grey value or a colour. Files of other people do not say how they are run: name the
    activation and ω. Where code of theirs adds a number to what the weights compute, --range takes it into account: networks of
    Navon et al. 2023 add 1/2, so that their weights show -0.5,0.5 (known by itself where the tensors are the published ones).

    Examples:

      nfn render digit.safetensors -o digit.png --size 256

      nfn render siren.pth -o siren.png --activation sin --omega 30 --coordinates 0,1,column-row

      nfn render zoo#0 zoo#1 zoo#2 -o grid.png
    """
    from nfn_cli.api import render_inr
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.output_files import check_picture
    from nfn_cli.cli.render import as_they_are
    from nfn_cli.cli.session import Session, expanded

    session = Session("render", json)
    names = o.name_options(activation, layers, None, omega, None, None)
    given = None if coordinates is None else i.coordinates_of(coordinates)
    bounds = None if pixels is None else i.pair_of(pixels, "--range")
    shape = None if size is None else i.size_of(size)
    check_picture(output, force)
    paths = list(expanded(inputs))
    tiles: list[Any] = []
    answers: list[tuple[str, Rendered]] = []

    def handle(path: str) -> None:
        asked = shape or (tiles[0].shape[:2] if tiles else None)  # a grid has tiles of one size
        shown = render_inr(i.opened_inr(path, names), size=asked, coordinates=given, pixels=bounds)
        tiles.append(shown.picture)
        answers.append((path, shown))

    session.each(paths, handle)
    if tiles:
        with session.guarded(str(output)):
            _write(output, tiles, columns, force)
            for path, shown in answers:
                answer = {"schema": "nfn.render/1", "path": path, "output": str(output), **shown.as_json()}
                if json:
                    write_object(answer)
                else:
                    found = f"{shown.picture.shape[0]}×{shown.picture.shape[1]}"
                    as_they_are([f"{path} -> {output}: {found}, values {shown.lowest:.3g} … {shown.highest:.3g}"])
    session.end()


def _write(output: Path, tiles: list[Any], columns: int, force: bool) -> None:
    from nfn_cli.checkpoint.atomic_write import atomic_output
    from nfn_cli.zoo.pictures import grid_of, picture_bytes

    with atomic_output(output, force) as handle:
        handle.write(picture_bytes(grid_of(tiles, columns)))
