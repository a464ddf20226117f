"""cli/edit_inr.py: `nfn edit-inr`: the picture of an INR edited through its weights. Parses, calls, renders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.predictors.inr_edit import Edited


def _editors(incomplete: str) -> list[str]:
    from nfn_cli.predictors.inr_edit_card import shipped_editors

    return [name for name in shipped_editors() if name.startswith(incomplete)]


def edit_inr(
    inputs: o.Inputs,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File for one INR; a folder for several, made where missing.", show_default=False
        ),
    ],
    style: Annotated[
        Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option(
            "--style",
            metavar="dilate|erode|contrast",
            help="What to do to the picture.",
            autocompletion=o.words("dilate", "erode", "contrast"),
            show_default=False,
        ),
    ] = None,
    predictor: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--predictor",
            metavar="NAME|DIR",
            help="A shipped editor or a folder with editor.json.  [default: inr-edit-STYLE]",
            autocompletion=_editors,
        ),
    ] = None,
    preview: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--preview", metavar="FILE.png", help="Also draw before, after and target side by side."),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--size",
            metavar="N|HEIGHTxWIDTH",
            help="Pixels that the operator works on.  [default: as the file says, else 28 for grey, 32 for colour]",
        ),
    ] = None,
    pixels: i.Range = None,
    coordinates: i.StatedCoordinates = None,
    activation: o.Activation = None,
    omega: o.Omega = None,
    layers: o.Layers = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Edit the picture that an INR shows by editing its weights: the same network with other numbers, in the same container.

    dilate: each pixel becomes the largest of the 3 × 3 around it. erode: the least. contrast: distances from the mean grow
    by half, what leaves black to white is cut off.

    The edit is a fixed number of learned steps of the weights towards the picture that the operator, with a learned correction
    for the errors of fits, makes of what the INR shows. It is exactly equivariant: members of one orbit under signs, shifts of
    biases by multiples of π/ω and permutations become members of one orbit, moved in the same way. Networks of sines only.

    mse_to_target tells how far the result is from the operator applied to what the INR showed, black to white being 1. Where an INR
    is a rough fit, the editor cleans the picture too, and the number is larger than the distance from what was meant.

    Examples:

      nfn edit-inr digit.safetensors --style dilate -o bold.safetensors --preview bold.png

      nfn edit-inr siren.pth --style erode -o thin.pth --activation sin --omega 30 --size 28

      nfn edit-inr zoo#0 zoo#1 --style contrast -o edited --json
    """
    from nfn_cli.checkpoint import check_outputs, save
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.output_files import check_picture, output_files
    from nfn_cli.cli.render import as_they_are
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.errors import NfnError
    from nfn_cli.predictors.inr_edit import edit_inr as edit
    from nfn_cli.predictors.inr_edit import load_editor
    from nfn_cli.printable import printable

    session = Session("edit-inr", json)
    names = o.name_options(activation, layers, None, omega, None, None)
    given = None if coordinates is None else i.coordinates_of(coordinates)
    bounds = None if pixels is None else i.pair_of(pixels, "--range")
    shape = None if size is None else i.size_of(size)
    editor = load_editor(_name_of(style, predictor))
    _check_style(style, editor.card.style)
    if preview is not None:
        check_picture(preview, force)
    paths = list(expanded(inputs))
    targets = output_files(paths, output, _file_name, "INRs", "edit them into two folders")
    shown: list[Edited] = []

    def handle(path: str) -> None:
        model = i.opened_inr(path, names)
        check_outputs(model.checkpoint, targets[path], force=force)
        try:
            edited = edit(model.checkpoint, model.networks, editor, size=shape, coordinates=given, pixels=bounds)
        except NfnError as error:
            raise error.located(printable(path)) from None
        saved = save(edited.checkpoint, targets[path], force=force)
        shown.append(edited)
        notes = [*edited.notes, *saved.notes, *(note for network in model.networks for note in network.notes)]
        for note in notes:
            session.note(note)
        if json:
            write_object(_answer(path, saved.path, editor.card.style, editor.card.name, edited, preview, notes))
        else:
            as_they_are(
                [f"{path} -> {saved.path}: {editor.card.style}, mean squared error {edited.mse_before:.3g} before, "
                 f"{edited.mse_to_target:.3g} after"]
            )  # fmt: skip

    session.each(paths, handle)
    if preview is not None and shown:
        with session.guarded(str(preview)):
            _draw(preview, shown, force)
    session.end()


def _name_of(style: str | None, predictor: str | None) -> str:
    from nfn_cli.errors import WrongUsage
    from nfn_cli.networks.inr_edit_styles import STYLES

    if predictor is None and style is None:
        raise WrongUsage("which style?", where="--style", fix=f"one of {', '.join(STYLES)}")
    if style is not None and style not in STYLES:
        raise WrongUsage(f"no style {style!r}", where="--style", fix=f"one of {', '.join(STYLES)}")
    return predictor or f"inr-edit-{style}"


def _check_style(style: str | None, trained: str) -> None:
    from nfn_cli.errors import WrongUsage

    if style is not None and style != trained:
        raise WrongUsage(f"the editor was trained to {trained}, not to {style}", where="--predictor")


def _file_name(path: str) -> str:
    """The last part of a path; a row of a zoo becomes a file of its own."""
    last = Path(path).name
    return f"{last.replace('#', '-')}.safetensors" if "#" in last else last


def _draw(target: Path, shown: list[Edited], force: bool) -> None:
    from nfn_cli.checkpoint.atomic_write import atomic_output
    from nfn_cli.predictors.inr_edit_preview import preview
    from nfn_cli.zoo.pictures import picture_bytes

    content = picture_bytes(preview(shown))
    with atomic_output(target, force) as handle:
        handle.write(content)


def _answer(
    path: str, output: Path, style: str, predictor: str, edited: Edited, preview: Path | None, notes: list[str]
) -> dict[str, object]:
    height, width, channels = edited.before.shape
    return {
        "schema": "nfn.edit-inr/1",
        "path": path,
        "output": str(output),
        "style": style,
        "predictor": predictor,
        "height": height,
        "width": width,
        "channels": channels,
        "range": [edited.low, edited.high],
        "mse_before": edited.mse_before,
        "mse_to_target": edited.mse_to_target,
        "preview": None if preview is None else str(preview),
        "notes": notes,
    }
