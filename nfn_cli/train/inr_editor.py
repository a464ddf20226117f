"""train/inr_editor.py: from zoos of INRs to an editor with its card: read, fit, measure on INRs of test pictures. No command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.checkpoint.zoo_shard import is_zoo, read_description
from nfn_cli.networks.inr_edit import EditorShape, InrEditor
from nfn_cli.networks.inr_edit_chain import values_at
from nfn_cli.networks.inr_edit_styles import CONTRAST, STYLES
from nfn_cli.predictors.inr_edit_card import EditorCard
from nfn_cli.train.harness import json_log
from nfn_cli.train.inr_edit import EditTraining, errors, fit_editor
from nfn_cli.train.inr_edit_data import InrPictures, read_inrs

Progress = Callable[[str, int, int], None]
OPERATORS = {
    "dilate": "each pixel becomes the largest of the 3 × 3 pixels around it, channel by channel",
    "erode": "each pixel becomes the least of the 3 × 3 pixels around it, channel by channel",
    "contrast": f"distances from the mean over all pixels and channels become {CONTRAST} times as large, and what leaves black to "
    "white is cut off",
}
_BINS = (0, 25, 30, 40, 100)
_AT_ONCE = 16


def train_editor(
    zoos: Sequence[str],
    images: Sequence[str],
    shape: EditorShape,
    config: EditTraining,
    name: str,
    reproduce: str,
    *,
    begin: InrEditor | None = None,
    rows: int | None = None,
    test_rows: int | None = 512,
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[EditorCard, InrEditor]:
    """A trained editor and its card.

    Args:
        images: the image set of each zoo, in order.
        begin: an editor whose steps are where these begin.
        rows, test_rows: INRs of training and of test pictures taken from each zoo; None for all.
        work: folder for the log and checkpoints.
    """
    training = read_inrs(zoos, images, "train", rows)
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    written = json_log(None if work is None else work / "log.jsonl")

    def log(record: dict[str, Any]) -> None:
        written(record)
        if progress is not None:
            progress(
                record["stage"],
                record["batch"],
                config.picture_batches if record["stage"] == "picture" else config.batches,
            )

    checkpoint = None if work is None else work / "editor.pt"
    editor = fit_editor(
        shape, config, training, begin=begin, identity=training.identity(), checkpoint=checkpoint, log=log
    )
    test: dict[str, Any] = {}
    for zoo, where in zip(zoos, images, strict=True):
        found = read_inrs([zoo], [where], "test", test_rows)
        test[Path(where).name] = measured(editor, found)
    names = ", ".join(Path(where).name for where in images)
    card = EditorCard(
        name=name,
        style=shape.style,
        operator=OPERATORS[shape.style],
        shape=shape.as_json(),
        parameters=sum(p.numel() for p in editor.parameters()),
        data={
            "description": f"{len(training):,} sine INRs of training pictures of {names} (nfn zoo fit-inrs); "
            "those of test pictures were measured on once, at the end. " + made_by(zoos),
            "sets": [Path(where).name for where in images],
            "rows": len(training),
            "sha256": training.identity(),
        },
        training=asdict(config),
        test=test,
        reproduce=reproduce,
    )
    return card, editor


def made_by(zoos: Sequence[str]) -> str:
    """How the zoos were made, as they say themselves; nothing where they do not."""
    told = []
    for zoo in zoos:
        content = read_description(Path(zoo)) if is_zoo(Path(zoo)) else {}
        making = content.get("making", {})
        told += [", ".join(f"{name} {making[name]}" for name in ("seed", "steps", "train", "test") if name in making)]
    return " ".join(f"Zoo {number}: {text}." for number, text in enumerate(told, 1) if text)


def measured(editor: InrEditor, inrs: InrPictures) -> dict[str, Any]:
    """Mean squared errors from the operator applied to the fitted pictures, black to white being 1."""
    editor = editor.eval()
    given: list[Tensor] = []
    edited: list[Tensor] = []
    told: list[Tensor] = []
    for rows in torch.split(torch.arange(len(inrs)), _AT_ONCE):
        batch = inrs[rows]
        height, width = batch.pictures.shape[2:]
        points, style = batch.points(), editor.shape.style
        for low, high, into in ((batch.low, batch.high, edited), (*batch.seen(), told)):
            layers = batch.framed(low, high)
            with torch.no_grad():
                got = values_at(editor(layers, points, height, width), points)
                into.append(errors(got, batch, low, high, style))
                if into is edited:
                    given.append(errors(values_at(layers, points), batch, low, high, style))
    found = torch.cat(edited)
    bins = []
    for start, stop in pairwise(_BINS):
        inside = (inrs.psnr >= start) & (inrs.psnr < stop)
        if bool(inside.any()):
            bins.append({"from": start, "to": stop, "count": int(inside.sum()), "edited": float(found[inside].mean())})
    return {
        "count": len(inrs),
        "unedited": float(torch.cat(given).mean()),
        "edited": float(found.mean()),
        "edited_median": float(np.median(found.numpy())),
        "edited_range_seen": float(torch.cat(told).mean()),
        "by_psnr": bins,
    }


def check_style(style: str) -> None:
    """Raises WrongUsage where there is no such style."""
    from nfn_cli.errors import WrongUsage

    if style not in STYLES:
        raise WrongUsage(f"no style {style!r}", where="--style", fix=f"one of {', '.join(STYLES)}")
