"""How many training steps of small CNNs a machine makes a second: `nfn zoo train-cnns` against a plain loop.

    python benchmarks/zoo_making.py [--seconds 5] [--repeats 3] [--architecture small-cnn] [--group-size 8]

The plain loop is what one writes first: one torch.nn.Module, one torch.optim optimizer, minibatches of 64 out of a tensor,
on as many threads as PyTorch takes. Beside it stands the better loop, one such process on one thread for each core. Both
and ours train the same architectures with the same optimizers on the same images, in turn within one run. The figures are
network-steps a second of the whole machine, and processor time a network-step, which says more on a machine that others
use too; medians of the repeats.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from figures import figure
from torch import nn
from torch.nn import functional

from nfn_cli.zoo.batched_cnn import CnnGroup, scaled
from nfn_cli.zoo.layer_end import FUNCTIONS
from nfn_cli.zoo.native_convolution import native_convolution
from nfn_cli.zoo.population import ACTIVATIONS_OF, Architecture, ImageShape, Settings, draw_group, initial_tensors
from nfn_cli.zoo.training_run import GROUP_SIZES, prepare_process

BATCH, IMAGES = 64, 4096
SHAPE = ImageShape(1, 32, 32, 10)
GROUPS = 3  # architectures that take turns


class PlainCnn(nn.Module):
    """The architecture as one would write it."""

    def __init__(self, architecture: Architecture, dropout: float) -> None:
        super().__init__()
        layers = list(enumerate(architecture.layers))
        self.architecture, self.activation = architecture, FUNCTIONS[architecture.activation]
        self.convs = nn.ModuleList(
            nn.Conv2d(architecture.incoming(i), layer.width, 3, layer.stride, 1, bias=not architecture.batch_norm)
            for i, layer in layers
        )
        norm = nn.BatchNorm2d if architecture.batch_norm else lambda width: nn.Identity()
        self.norms = nn.ModuleList(norm(layer.width) for _, layer in layers)
        self.shortcuts = nn.ModuleList(
            nn.Conv2d(architecture.incoming(i), layer.width, 1, layer.stride, bias=False)
            if architecture.has_projection(i)
            else nn.Identity()
            for i, layer in layers
        )
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(architecture.layers[-1].width, architecture.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, (conv, norm, shortcut) in enumerate(zip(self.convs, self.norms, self.shortcuts, strict=True)):
            y = norm(conv(x))
            if self.architecture.residual and index:
                y = y + shortcut(x)
            x = self.activation(y)
        return self.head(self.dropout(x.mean((2, 3))))


def plain_step(architecture: Architecture, settings: Settings, row: int, data: Any) -> Callable[[], int]:
    """One step of one network in the plain loop."""
    model = PlainCnn(architecture, float(settings.dropout[row]))
    rate, decay = float(settings.learning_rate[row]), 2.0 * float(settings.l2reg[row])
    optimizer: torch.optim.Optimizer = {
        "adam": lambda: torch.optim.Adam(model.parameters(), rate, weight_decay=decay),
        "sgd": lambda: torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=decay),
        "rmsprop": lambda: torch.optim.RMSprop(model.parameters(), rate, weight_decay=decay),
    }[str(settings.optimizer[row])]()
    images = scaled(data[0], torch.float32).permute(0, 3, 1, 2).contiguous()

    def step() -> int:
        rows = torch.randint(0, IMAGES, (BATCH,))
        optimizer.zero_grad()
        functional.cross_entropy(model(images[rows]), data[1][rows]).backward()
        optimizer.step()
        return 1

    return step


def group_step(architecture: Architecture, settings: Settings, data: Any) -> Callable[[], int]:
    """One step of a group of ours."""
    group = CnnGroup(architecture, settings, initial_tensors(architecture, settings, np.random.default_rng(0)))
    masks = torch.Generator().manual_seed(0)

    def step() -> int:
        rows = torch.randint(0, IMAGES, (BATCH,))
        group.train_step(data[0][rows], data[1][rows], masks)
        return len(settings)

    return step


def steps_of(method: str, kind: str, size: int) -> list[Callable[[], int]]:
    generator = torch.Generator().manual_seed(0)
    data = (
        torch.randint(
            0, 256, (IMAGES, SHAPE.height, SHAPE.width, SHAPE.channels), dtype=torch.uint8, generator=generator
        ),
        torch.randint(0, SHAPE.classes, (IMAGES,), generator=generator),
    )
    found = []
    for index in range(GROUPS):
        architecture, settings = draw_group(kind, SHAPE, ACTIVATIONS_OF[kind], size, 0, index)
        if method == "ours":
            found.append(group_step(architecture, settings, data))
        else:
            found += [plain_step(architecture, settings, row, data) for row in range(min(3, size))]
    return found


def serve(method: str, kind: str, size: int, threads: int | None, orders: Any, answers: Any) -> None:
    """A process that, when told, trains for some seconds and answers with (seconds, processor seconds) a network-step."""
    if method == "ours":
        prepare_process()
        assert native_convolution() is not None, "no C compiler: these would be the figures without it"
    elif threads:
        torch.set_num_threads(threads)
    steps = steps_of(method, kind, size)
    for step in steps:
        step()
    answers.put(None)
    while (seconds := orders.get()) > 0:
        done, spent, worked = ([0.0] * len(steps) for _ in range(3))
        for index, step in enumerate(steps):  # the same share of time for each
            begin, begin_work = time.perf_counter(), time.process_time()
            while spent[index] < seconds / len(steps):
                done[index] += step()
                spent[index] = time.perf_counter() - begin
            worked[index] = time.process_time() - begin_work
        # time a network-step takes, averaged over networks, is what a population costs
        answers.put([statistics.mean(t / d for t, d in zip(total, done, strict=True)) for total in (spent, worked)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--architecture", choices=sorted(ACTIVATIONS_OF), default="small-cnn")
    parser.add_argument("--group-size", type=int, default=GROUP_SIZES["cpu"])
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    contenders = {
        "plain loop": ("plain", 1, None),
        "plain loop, one process a core": ("plain", cores, 1),
        "nfn zoo train-cnns": ("ours", cores, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    work: dict[str, list[float]] = {name: [] for name in contenders}
    running = {}
    for name, (method, processes, threads) in contenders.items():
        orders, answers = context.Queue(), context.Queue()
        arguments = (method, options.architecture, options.group_size, threads, orders, answers)
        members = [context.Process(target=serve, args=arguments, daemon=True) for _ in range(processes)]
        for member in members:
            member.start()
        for _ in members:
            answers.get()
        running[name] = orders, answers, members
    for _ in range(options.repeats):
        for name, (orders, answers, members) in running.items():
            for _member in members:
                orders.put(options.seconds)
            found = [answers.get() for _member in members]
            rates[name].append(sum(1.0 / seconds for seconds, _ in found))
            work[name].append(1e3 * statistics.mean(worked for _, worked in found))
    for orders, _, members in running.values():
        for _member in members:
            orders.put(0)
        for member in members:
            member.join()
    ours = statistics.median(rates["nfn zoo train-cnns"])
    for name, values in rates.items():
        rate, worked = statistics.median(values), statistics.median(work[name])
        line = {
            "method": name,
            "network_steps_per_second": round(rate, 1),
            "ours_is_faster_by": round(ours / rate, 2),
            "processor_ms_per_network_step": round(worked, 2),
            "ours_works_less_by": round(worked / statistics.median(work["nfn zoo train-cnns"]), 2),
            "architecture": options.architecture,
            "cores": cores,
        }
        print(json.dumps(line))
    figure("speed", ours / statistics.median(rates["plain loop"]))


if __name__ == "__main__":
    main()
