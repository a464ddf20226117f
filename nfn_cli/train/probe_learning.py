"""train/probe_learning.py: moves probes to where answers tell most about scores. Knows probes, networks of a zoo; no card.

Learned probe inputs in the manner of ProbeGen (arXiv 2410.10811). On a thousand runs learning helps a few probes (30:
out-of-fold τ 0.885 → 0.898) and not many (128: 0.922 → 0.922, less at larger steps), which is why it is not the default.
The gradient of the loss goes through the head, the statistics of the answers and every network, to the probes; the
networks' own weights stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.networks.probing import Answers, Probes, answer_statistics
from nfn_cli.networks.statistics_mlp import StatisticsMlp
from nfn_cli.train.zoo_data import ZooData

Array = np.ndarray[Any, np.dtype[Any]]
# stacked networks of one graph, inputs -> answers (n, k, classes)
Ask = Callable[[Any, dict[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class ProbeLearning:
    """Epochs over the networks; networks a step; learning rates of probes and head; seed of the order."""

    epochs: int = 6
    batch_size: int = 24
    probe_rate: float = 4e-3
    head_rate: float = 3e-4
    seed: int = 0


def learned_probes(
    probes: Probes,
    head: StatisticsMlp,
    data: ZooData,
    ask: Ask,
    config: ProbeLearning,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Probes:
    """Probes after learning, in [−1, 1] as images are.

    Args:
        head: fitted to the answers to the probes as they are given; it is changed.
        data: networks to learn from, and from no others.
    """
    inputs = probes.inputs.float().requires_grad_(True)
    target = torch.from_numpy(data.target).float()
    optimizer = torch.optim.Adam(
        [{"params": [inputs], "lr": config.probe_rate}, {"params": head.parameters(), "lr": config.head_rate}],
        betas=(0.9, 0.99),
    )
    steps = max(config.epochs * -(-len(data) // config.batch_size), 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = np.random.default_rng(config.seed)
    part_of = np.zeros(len(data), np.int64)
    place_of = np.zeros(len(data), np.int64)
    for number, part in enumerate(data.parts):
        part_of[part.rows], place_of[part.rows] = number, np.arange(len(part))
    for epoch in range(config.epochs):
        head.train()
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        order, losses = draw.permutation(len(data)), []
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            loss = _loss(
                inputs, probes.roles, head, data, rows[np.argsort(part_of[rows])], (part_of, place_of), ask, target
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                inputs.clamp_(-1.0, 1.0)
            losses.append(float(loss.detach()))
        log({"probe_epoch": epoch + 1, "train_loss": float(np.mean(losses))})
    return Probes(inputs.detach(), probes.roles)


def _loss(
    inputs: Tensor,
    roles: Tensor,
    head: StatisticsMlp,
    data: ZooData,
    rows: Array,
    places: tuple[Array, Array],
    ask: Ask,
    target: Tensor,
) -> Tensor:
    """Mean cross-entropy over some networks, `rows` sorted by their part."""
    part_of, place_of = places
    found = []
    for number in np.unique(part_of[rows]):
        part = data.parts[number]
        mine = place_of[rows[part_of[rows] == number]]
        stacked = {name: torch.from_numpy(np.ascontiguousarray(array[mine])) for name, array in part.tensors.items()}
        found.append(answer_statistics(ask(part.graph, stacked, inputs), roles))
    predicted = head.forward_prepared(Answers(torch.cat(found)))[:, 0]
    return torch.nn.functional.binary_cross_entropy_with_logits(predicted, target[torch.from_numpy(rows)])
