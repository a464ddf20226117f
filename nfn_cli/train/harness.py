"""train/harness.py: fits one network to scores or classes. Knows torch; no zoo, no card, no kind of model.

Deterministic per seed; after a kill it goes on from the last checkpoint and ends at the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.predictors.kinds.kind import Prepared

_PIECE = 4096  # networks at once where no gradient is needed


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
    """Networks as a model's encoder gives them, and their scores (n,) in [0, 1], or their classes (n,) int64."""

    prepared: Any
    target: Tensor


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimized.

    Attributes:
        of: outputs (n, o) and targets (n,) -> the mean loss.
        least: targets -> the mean loss of the best possible outputs.
        start: targets -> (o,) outputs that fit all targets best, with which training begins.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    least: Callable[[Tensor], Tensor]
    start: Callable[[Tensor], Tensor]


def _coin(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits[:, 0], target)


# The cross-entropy of a coin that shows heads with the probability to be predicted, so an accuracy is both target and
# prediction (as in Unterthiner et al. 2020 and the papers after it).
SCORES = Loss(
    _coin,
    lambda target: _coin(torch.logit(target, eps=1e-6)[:, None], target),
    lambda target: torch.logit(target.mean().clamp(1e-4, 1 - 1e-4))[None],
)


def classes(count: int, smoothing: float = 0.0) -> Loss:
    """Cross-entropy of `count` classes; `smoothing` is the share of a target that is spread over all of them."""
    return Loss(
        lambda logits, target: functional.cross_entropy(logits, target, label_smoothing=smoothing),
        lambda target: torch.zeros(()),
        lambda target: torch.bincount(target, minlength=count).add(1.0).div(len(target) + count).log(),
    )


# Changes a batch while training: what the network reads, and targets. Random numbers come from torch's generator.
Augment = Callable[[Any, Tensor], tuple[Any, Tensor]]


def fit(
    build: Callable[[], nn.Module],
    config: TrainConfig,
    training: Examples,
    validation: Examples | None = None,
    *,
    identity: str = "",
    checkpoint: Path | None = None,
    log: Log | None = None,
    loss: Loss = SCORES,
    augment: Augment | None = None,
    warm: bool = False,
) -> nn.Module:
    """Trains one network and returns it in evaluation mode.

    With validation examples these are the weights that did best on them, without, those of the last epoch.

    Args:
        build: a fresh network with `fit_normalization`, `forward_prepared` and `head`, its last layer linear.
        warm: whether `build` gives a trained network, to be trained further.
        identity: what tells this training from others: data and architecture.
        checkpoint: file to resume from and to write to; one of another identity or configuration is not used.
    """
    log = log or json_log(None)
    torch.manual_seed(config.seed)
    model: Any = build()
    if not warm:
        model.fit_normalization(training.prepared)
        with torch.no_grad():
            last = model.head[-1]
            last.weight.zero_()
            last.bias.copy_(loss.start(training.target))
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
        learned = _epoch(model, optimizer, schedule, training, config, state.epoch, batches, loss, augment)
        state.epoch += 1
        if validation is None:
            log({"epoch": state.epoch, "train_loss": learned})
        elif state.epoch % config.validate_every == 0 or state.epoch == config.epochs:
            value = evaluate(model, validation, loss)
            log({"epoch": state.epoch, "train_loss": learned, "validation_loss": value})
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
def evaluate(model: Any, examples: Examples, loss: Loss = SCORES) -> float:
    """Mean loss above the least possible one (for scores the entropy of the targets), in evaluation mode."""
    return float(loss.of(outputs(model, examples.prepared), examples.target) - loss.least(examples.target))


@torch.no_grad()
def outputs(model: Any, prepared: Any) -> Tensor:
    """(n, o) in evaluation mode, some networks at a time."""
    model.eval()
    starts = range(0, len(prepared), _PIECE)
    return torch.cat([torch.as_tensor(model.forward_prepared(prepared[s : s + _PIECE])) for s in starts])


@torch.no_grad()
def predict(model: Any, prepared: Prepared) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n,) predicted scores in (0, 1)."""
    return torch.sigmoid(outputs(model, prepared)[:, 0].double()).numpy()


@dataclass
class _Progress:
    settings: str
    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None


def _is_over(state: _Progress, config: TrainConfig) -> bool:
    return bool(config.patience) and state.best_epoch > 0 and state.epoch - state.best_epoch >= config.patience


def _epoch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    training: Examples,
    config: TrainConfig,
    epoch: int,
    batches: int,
    loss: Loss,
    augment: Augment | None,
) -> float:
    """One pass; order, dropout and augmentation depend on (seed, epoch) only, so that a resumed run repeats an unbroken one."""
    model.train()
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(training.target))
    total = 0.0
    for number in range(batches):
        rows = order[number * config.batch_size : (number + 1) * config.batch_size]
        prepared, target = training.prepared[rows], training.target[rows]
        if augment is not None:
            prepared, target = augment(prepared, target)
        value = loss.of(model.forward_prepared(prepared), target)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(value.detach())
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
    with atomic_output(path, force=True) as handle:
        torch.save(parts, handle)


def _resume(path: Path, fresh: _Progress, model: Any, optimizer: Any, schedule: Any) -> _Progress:
    parts = torch.load(path, weights_only=True)
    if parts["settings"] != fresh.settings:
        return fresh
    model.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    schedule.load_state_dict(parts["schedule"])
    return _Progress(parts["settings"], parts["epoch"], parts["best_loss"], parts["best_epoch"], parts["best"])
