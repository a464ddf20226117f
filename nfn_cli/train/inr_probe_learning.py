"""train/inr_probe_learning.py: where INRs are best asked. Knows the reader of answers and the harness's data; no card.

The classifier stands still while the loss moves the offsets, through the networks that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.networks.inr_pixels import Pixels
from nfn_cli.predictors.kinds.inr import ProbeReader
from nfn_cli.train.harness import Loss
from nfn_cli.train.inr_data import InrData


@dataclass(frozen=True, slots=True)
class InrProbeLearning:
    """How offsets are learned.

    Attributes:
        networks: so many of the training networks, seen once; judged: by so many others the offsets are kept or given up.
        batch_size, learning_rate: of Adam.
        farthest: a point stays this near to where it began, in each coordinate.
        seed: of the choice and order of networks.
    """

    networks: int = 3000
    judged: int = 600
    batch_size: int = 64
    learning_rate: float = 1e-3
    farthest: float = 0.05
    seed: int = 0


def learned_probes(
    reader: ProbeReader,
    member: nn.Module,
    data: InrData,
    loss: Loss,
    config: InrProbeLearning = InrProbeLearning(),
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> ProbeReader:
    """The reader with offsets at which the member's loss on further networks is less; the same where learning gave none."""
    began = reader.offsets.float()
    offsets = began.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([offsets], lr=config.learning_rate)
    member.eval()
    draw = np.random.default_rng(config.seed)
    batches = [(part, rows) for part in data.parts for rows in _batches(draw.permutation(len(part)), config.batch_size)]
    order = draw.permutation(len(batches))
    held = max(config.judged // config.batch_size, 1)
    judged, learned = order[:held], order[held : held + max(config.networks // config.batch_size, 1)]

    def loss_of(number: int, offsets: Tensor) -> Tensor:
        part, rows = batches[number]
        stacked = {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in part.tensors.items()}
        label = torch.from_numpy(data.label[part.rows[rows]])
        answers = reader.answers(part.graph, stacked, offsets, data.coordinates[part.rows[0]])
        return loss.of(_forward(member, Pixels(answers)), label)

    @torch.no_grad()
    def judge(offsets: Tensor) -> float:
        return float(np.mean([float(loss_of(number, offsets)) for number in judged]))

    for number in learned:
        (offsets.grad,) = torch.autograd.grad(loss_of(number, offsets), [offsets])
        optimizer.step()
        with torch.no_grad():
            offsets.copy_(torch.clamp(offsets, began - config.farthest, began + config.farthest))
    before, after = judge(began), judge(offsets)
    log({"probe_loss_before": before, "after": after, "moved": float((offsets - began).detach().abs().mean())})
    if not after < before:
        return reader
    return ProbeReader(reader.channels, reader.height, reader.width, offsets.detach())


def _forward(member: Any, pixels: Pixels) -> Tensor:
    return torch.as_tensor(member.forward_prepared(pixels))


def _batches(order: np.ndarray[Any, np.dtype[Any]], size: int) -> list[np.ndarray[Any, np.dtype[Any]]]:
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)] or [order]
