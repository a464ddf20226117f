"""train/inr_edit.py: fits an editor of INRs: first the wanted picture alone, then everything, through all steps. No zoo, no card.

Deterministic per seed; after a kill it goes on from the last checkpoint and ends at the same weights.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nfn_cli.networks.inr_edit import EditorShape, InrEditor
from nfn_cli.networks.inr_edit_chain import values_at
from nfn_cli.networks.inr_edit_styles import STYLES
from nfn_cli.train.harness import Log, json_log
from nfn_cli.train.inr_edit_data import InrPictures


@dataclass(frozen=True)
class EditTraining:
    """How an editor is fitted.

    Attributes:
        picture_batches, picture_size, picture_rate: of the wanted picture alone.
        batches, size, rate: of everything; both learning rates fall to 0 along a cosine.
        seed: of the initialization and of the batches.
        checkpoint_every: batches between checkpoints on disk.
    """

    picture_batches: int = 500
    picture_size: int = 24
    picture_rate: float = 4e-3
    batches: int = 150
    size: int = 8
    rate: float = 1e-2
    seed: int = 0
    checkpoint_every: int = 25


def fit_editor(
    shape: EditorShape,
    config: EditTraining,
    training: InrPictures,
    *,
    begin: InrEditor | None = None,
    identity: str = "",
    checkpoint: Path | None = None,
    log: Log | None = None,
) -> InrEditor:
    """A trained editor, in evaluation mode.

    Black and white are those of the fit for half of the networks, and those that their values tell for the others.

    Args:
        begin: an editor of as many steps, of any style, whose steps are where these begin.
        identity: what tells this training from others: the data.
        checkpoint: file to resume from and to write to; one of another identity or configuration is not used.
    """
    log = log or json_log(None)
    torch.manual_seed(config.seed)
    editor = InrEditor(shape).train()
    if begin is not None:
        editor.steps.load_state_dict(begin.steps.state_dict())
    for stage in ("picture", "whole"):
        _stage(stage, editor, config, training, json.dumps([identity, asdict(shape), asdict(config)]), checkpoint, log)
    return editor.eval()


def _stage(
    stage: str,
    editor: InrEditor,
    config: EditTraining,
    training: InrPictures,
    settings: str,
    checkpoint: Path | None,
    log: Log,
) -> None:
    alone = stage == "picture"
    total, size = (config.picture_batches, config.picture_size) if alone else (config.batches, config.size)
    groups = [
        {"params": list(editor.picture.parameters()), "lr": config.picture_rate if alone else config.picture_rate / 10}
    ]
    if not alone:
        groups.append({"params": list(editor.steps.parameters()), "lr": config.rate})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total, 1))
    path = None if checkpoint is None else checkpoint.with_suffix(f".{stage}{checkpoint.suffix}")
    done = _resume(path, settings, editor, optimizer, schedule)
    for number in range(done, total):
        torch.manual_seed((config.seed * 2 + alone) * 1_000_003 + number)
        batch = training[torch.randint(len(training), (size,))]
        error = _loss(editor, batch, alone, torch.rand(size) < 0.5)
        # the mean is ruled by the worst fits; roots of errors count all alike
        loss = error.add(1e-5).sqrt().mean() + error.mean() * 4
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(editor.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        log({"stage": stage, "batch": number + 1, "mse": float(error.detach().mean())})
        if path is not None and ((number + 1) % config.checkpoint_every == 0 or number + 1 == total):
            _save(path, {"settings": settings, "done": number + 1}, editor, optimizer, schedule)


def _loss(editor: InrEditor, batch: InrPictures, alone: bool, as_fitted: Tensor) -> Tensor:
    """(n,) mean squared errors, black to white being 1."""
    low, high = batch.low, batch.high
    if not bool(as_fitted.all()):
        seen = batch.seen()
        low, high = torch.where(as_fitted, low, seen[0]), torch.where(as_fitted, high, seen[1])
    height, width = batch.pictures.shape[2:]
    layers, points = batch.framed(low, high), batch.points()
    if alone:
        with torch.no_grad():
            shown = values_at(layers, points).reshape(batch.pictures.shape)
        got = editor.picture(shown).flatten(2)
    else:
        got = values_at(editor(layers, points, height, width), points)
    return errors(got, batch, low, high, editor.shape.style)


def errors(got: Tensor, batch: InrPictures, low: Tensor, high: Tensor, style: str) -> Tensor:
    """(n,) mean squared distance of values (n, channels, p), 0 at `low` and 1 at `high`, from the operator applied to the fitted
    picture; in units of the distance from black to white."""
    aim = STYLES[style](batch.pictures).flatten(2)
    spread = (batch.high - batch.low)[:, None, None]
    black, scale = (low - batch.low)[:, None, None] / spread, (high - low)[:, None, None] / spread
    return (black + scale * got - aim).square().mean((1, 2))


def _save(path: Path, record: dict[str, Any], editor: InrEditor, optimizer: Any, schedule: Any) -> None:
    parts = {"editor": editor.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    partial = path.with_suffix(".partial")
    torch.save({**record, **parts}, partial)
    os.replace(partial, path)


def _resume(path: Path | None, settings: str, editor: InrEditor, optimizer: Any, schedule: Any) -> int:
    if path is None or not path.exists():
        return 0
    parts = torch.load(path, weights_only=True)
    if parts["settings"] != settings:
        return 0
    editor.load_state_dict(parts["editor"])
    optimizer.load_state_dict(parts["optimizer"])
    schedule.load_state_dict(parts["schedule"])
    return int(parts["done"])
