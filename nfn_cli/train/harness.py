"""train/harness.py: fits one network to numbers in (0, 1). Knows torch; no zoo, no card, no kind of model.

Deterministic per seed; after a kill it goes on from the last checkpoint and ends at the same weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.predictors.kinds.kind import Prepared


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one network is fitted.

    Attributes:
        epochs: at most; the learning rate rises for the first tenth and then falls to 0 along a cosine.
        batch_size, learning_rate, weight_decay: of AdamW.
        patience: epochs without a better validation loss until training ends; 0 means all epochs.
        validate_every: epochs between validations; without validation examples neither is used.
        seed: of the initialization and of the order of batches.
        checkpoint_every: epochs between checkpoints on disk.
    """

    epochs: int = 120
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    patience: int = 60
    validate_every: int = 2
    seed: int = 0
    checkpoint_every: int = 20


Log = Callable[[dict[str, Any]], None]


def json_log(path: Path | None) -> Log:
    """A log of one JSON object a line, appended to `path` and flushed; None logs nowhere."""

    def write(record: dict[str, Any]) -> None:
        if path is not None:
            with open(path, "a") as file:
                file.write(json.dumps(record) + "\n")

    return write


@dataclass(frozen=True, slots=True)
class Examples:
    """Networks as a model's encoder gives them, and their scores (n,) in [0, 1]."""

    prepared: Any
    target: Tensor


def fit(
    build: Callable[[], nn.Module],
    config: TrainConfig,
    training: Examples,
    validation: Examples | None = None,
    *,
    identity: str = "",
    checkpoint: Path | None = None,
    log: Log | None = None,
) -> nn.Module:
    """Trains one network and returns it in evaluation mode.

    With validation examples these are the weights that did best on them, without, those of the last epoch.

    The loss is the cross-entropy of a coin that shows heads with the probability to be predicted, so an accuracy is
    both target and prediction (as in Unterthiner et al. 2020 and the papers after it).

    Args:
        build: a fresh network with `fit_normalization`, `forward_prepared` and `head`, its last layer linear.
        identity: what tells this training from others: data and architecture.
        checkpoint: file to resume from and to write to; one of another identity or configuration is not used.
    """
    log = log or json_log(None)
    torch.manual_seed(config.seed)
    model: Any = build()
    model.fit_normalization(training.prepared)
    with torch.no_grad():
        last = model.head[-1]
        last.weight.zero_()
        last.bias.copy_(torch.logit(training.target.mean().clamp(1e-4, 1 - 1e-4)))
    batches = max(len(training.prepared) // config.batch_size, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * batches + 1, pct_start=0.1
    )
    settings = json.dumps([identity, asdict(config)], sort_keys=True)
    state = _Progress(settings)
    if checkpoint is not None and checkpoint.exists():
        state = _resume(checkpoint, state, model, optimizer, schedule)
    while state.epoch < config.epochs and not _is_over(state, config):
        loss = _epoch(model, optimizer, schedule, training, config, state.epoch, batches)
        state.epoch += 1
        if validation is None:
            log({"epoch": state.epoch, "train_loss": loss})
        elif state.epoch % config.validate_every == 0 or state.epoch == config.epochs:
            value = evaluate(model, validation)
            log({"epoch": state.epoch, "train_loss": loss, "validation_loss": value})
            if value < state.best_loss:
                state.best_loss, state.best_epoch = value, state.epoch
                state.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if checkpoint is not None and state.epoch % config.checkpoint_every == 0:
            _save(checkpoint, state, model, optimizer, schedule)
    if state.best:
        model.load_state_dict(state.best)
        log({"best_epoch": state.best_epoch, "best_validation_loss": state.best_loss})
    trained: nn.Module = model.eval()
    return trained


@torch.no_grad()
def evaluate(model: Any, examples: Examples) -> float:
    """Mean loss above the least possible one (the entropy of the targets), in evaluation mode."""
    model.eval()
    logits = model.forward_prepared(examples.prepared)[:, 0]
    return float(_loss(logits, examples.target) - _loss(torch.logit(examples.target, eps=1e-6), examples.target))


@torch.no_grad()
def predict(model: Any, prepared: Prepared) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n,) predicted scores in (0, 1)."""
    model.eval()
    return torch.sigmoid(model.forward_prepared(prepared)[:, 0].double()).numpy()


@dataclass
class _Progress:
    settings: str
    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None


def _is_over(state: _Progress, config: TrainConfig) -> bool:
    return bool(config.patience) and state.best_epoch > 0 and state.epoch - state.best_epoch >= config.patience


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target)


def _epoch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    training: Examples,
    config: TrainConfig,
    epoch: int,
    batches: int,
) -> float:
    """One pass; order and dropout depend on (seed, epoch) only, so that a resumed run repeats an unbroken one."""
    model.train()
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(training.target))
    total = 0.0
    for number in range(batches):
        rows = order[number * config.batch_size : (number + 1) * config.batch_size]
        loss = _loss(model.forward_prepared(training.prepared[rows])[:, 0], training.target[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
    return total / batches


def _save(path: Path, state: _Progress, model: Any, optimizer: Any, schedule: Any) -> None:
    parts = {
        "settings": state.settings,
        "epoch": state.epoch,
        "best_loss": state.best_loss,
        "best_epoch": state.best_epoch,
        "best": state.best,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    partial = path.with_suffix(".partial")
    torch.save(parts, partial)
    os.replace(partial, path)


def _resume(path: Path, fresh: _Progress, model: Any, optimizer: Any, schedule: Any) -> _Progress:
    parts = torch.load(path, weights_only=True)
    if parts["settings"] != fresh.settings:
        return fresh
    model.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    schedule.load_state_dict(parts["schedule"])
    return _Progress(parts["settings"], parts["epoch"], parts["best_loss"], parts["best_epoch"], parts["best"])
