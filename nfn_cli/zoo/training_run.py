"""zoo/training_run.py: a whole population trained, group after group, each group one shard. Knows the store and time.

A group is the unit of work: its content depends on the plan and its number alone, whoever trains it and when, so a run
that was killed goes on with the groups that are missing and ends with the same bytes.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import WrongUsage
from nfn_cli.zoo.batched_cnn import CnnGroup
from nfn_cli.zoo.cnn_graph import cnn_graph
from nfn_cli.zoo.images import ImageData
from nfn_cli.zoo.population import Architecture, Array, ImageShape, Settings, draw_group, initial_tensors
from nfn_cli.zoo.store import create_zoo, shard_names, write_shard
from nfn_cli.zoo.worker_processes import deaf_to_interrupts, end_in_order

_SECONDS_PER_REPORT = 0.5
TRAIN_IMAGES_SCORED = 5000
GROUP_SIZES = {"cpu": 8, "cuda": 64}  # cpu: what one step touches should stay in the cache
SCORING = 1.0 / 3.0  # cost of running an image, of that of training on it

Advance = Callable[[float], None]


class Progress:
    """What is told how much of the work is done; this one is silent."""

    def begin(self, total: float, done: float, networks: int) -> None: ...

    def advance(self, work: float) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True)
class MakingPlan:
    """Everything that a zoo's content depends on, apart from how many groups of it are made.

    Attributes:
        architecture: "small-cnn" or "heterogeneous".
        activations: take turns, a group each.
        group_size: networks of a group: one architecture, one fraction of the training set, the same minibatches.
        checkpoints: steps after which every network is stored, rising; the last is the length of the training.
        compute: type of the convolutions, "float32" or "bfloat16".
        device: "cpu" or "cuda".
    """

    architecture: str
    activations: tuple[str, ...]
    seed: int
    group_size: int
    checkpoints: tuple[int, ...]
    batch_size: int
    compute: str
    device: str

    def group(self, index: int, image: ImageShape) -> tuple[Architecture, Settings]:
        return draw_group(self.architecture, image, self.activations, self.group_size, self.seed, index)

    def cost(self, index: int, data: ImageData) -> float:
        """Work of a group, in multiplications of a forward pass."""
        architecture, settings = self.group(index, image_shape(data))
        shown = self.checkpoints[-1] * self.batch_size
        seen = min(TRAIN_IMAGES_SCORED, _seen(settings, len(data.train)))
        scored = len(self.checkpoints) * (len(data.test) + seen)
        return architecture.cost * self.group_size * (shown + SCORING * scored)


def _seen(settings: Settings, images: int) -> int:
    """How many training images a group sees."""
    return max(1, round(settings.train_fraction * images))


@dataclass(frozen=True)
class PlacedData:
    """Images on the device that trains: uint8 images (n, height, width, channels) and labels (n,)."""

    name: str
    shape: ImageShape
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def place(data: ImageData, device: str) -> PlacedData:
    train, test = (
        (torch.from_numpy(part.images).to(device), torch.from_numpy(part.labels).to(device))
        for part in (data.train, data.test)
    )
    return PlacedData(data.name, image_shape(data), train, test)


def image_shape(data: ImageData) -> ImageShape:
    height, width, channels = data.train.images.shape[1:]
    return ImageShape(channels, height, width, data.classes)


def checkpoint_steps(steps: int, fractions: tuple[float, ...]) -> tuple[int, ...]:
    """Fractions of the training, 0 < f ≤ 1 -> steps, rising, the end included."""
    if any(not 0.0 < fraction <= 1.0 for fraction in fractions):
        raise WrongUsage("checkpoints are fractions of the training, above 0 and at most 1")
    return tuple(sorted({max(1, round(fraction * steps)) for fraction in fractions} | {steps}))


def make_zoo(
    folder: Path, plan: MakingPlan, data: ImageData, groups: int, threads: int = 1, progress: Progress | None = None
) -> list[int]:
    """Train the groups 0..groups−1 that `folder` does not hold yet.

    Args:
        threads: groups trained at the same time on the CPU, each on one thread; the bytes do not depend on it.
        progress: is told how much of the work is done.

    Returns:
        Numbers of the groups that were trained now.

    Raises:
        WrongUsage: the folder holds another zoo.
        SurroundingsFailed: disk full, no permission.
    """
    title = f"{plan.architecture} CNNs trained on {data.name}"
    create_zoo(
        folder, title, making=json.loads(json.dumps(asdict(plan))), data={"name": data.name, "sha256": data.digest()}
    )
    done = set(shard_names(folder))
    missing = [index for index in range(groups) if group_name(index) not in done]
    costs = [plan.cost(index, data) for index in range(groups)]
    progress = progress or Progress()
    progress.begin(sum(costs), sum(costs) - sum(costs[index] for index in missing), len(missing) * plan.group_size)
    if plan.device == "cpu" and threads > 1 and len(missing) > 1:
        _in_processes(folder, plan, data, missing, min(threads, len(missing)), progress)
    else:
        prepare_process()
        placed = place(data, plan.device)
        for index in missing:
            train_group(folder, plan, placed, index, progress.advance)
    progress.end()
    return missing


def group_name(index: int) -> str:
    return f"group-{index:06d}"


def train_group(folder: Path, plan: MakingPlan, data: PlacedData, index: int, advance: Advance) -> None:
    """Train one group and write its shard."""
    architecture, settings = plan.group(index, data.shape)
    generator = np.random.default_rng([plan.seed, index, 1])
    tensors = initial_tensors(architecture, settings, generator)
    group = CnnGroup(architecture, settings, tensors, plan.device, compute=getattr(torch, plan.compute))
    seen = generator.permutation(len(data.train[0]))[: _seen(settings, len(data.train[0]))]
    masks = torch.Generator(plan.device).manual_seed(int(generator.integers(1 << 62)))
    scored = {"test": data.test, "train": _rows(data.train, np.sort(seen[:TRAIN_IMAGES_SCORED]))}
    cost = architecture.cost * plan.group_size
    diverged = np.full(plan.group_size, -1)
    kept: list[dict[str, Array]] = []
    columns: list[dict[str, Any]] = []
    for step in range(1, plan.checkpoints[-1] + 1):
        group.train_step(*_rows(data.train, generator.choice(seen, plan.batch_size)), masks)
        advance(cost * plan.batch_size)
        if step not in plan.checkpoints:
            continue
        diverged[(diverged < 0) & ~group.alive.cpu().numpy()] = step
        kept.append(group.tensors())
        columns.append(_columns(plan, data.name, index, step, architecture, settings, diverged))
        for name, part in scored.items():
            accuracy, loss = group.scores(*part)
            columns[-1] |= {f"{name}_accuracy": accuracy, f"{name}_loss": np.where(np.isfinite(loss), loss, np.nan)}
            advance(cost * SCORING * len(part[0]))
    _write(folder, index, architecture, kept, columns)


def _rows(part: tuple[Tensor, Tensor], rows: Array) -> tuple[Tensor, Tensor]:
    chosen = torch.from_numpy(rows).to(part[0].device)
    return part[0][chosen], part[1][chosen]


def _write(
    folder: Path, index: int, architecture: Architecture, kept: list[dict[str, Array]], columns: list[dict[str, Any]]
) -> None:
    """One shard, the checkpoints of a run in a row."""

    def interleaved(parts: list[Any]) -> Array:
        whole: Array = np.stack([np.asarray(part) for part in parts], axis=1)
        return whole.reshape(-1, *whole.shape[2:])

    tensors = {name: interleaved([part[name] for part in kept]) for name in kept[0]}
    table = {name: interleaved([part[name] for part in columns]) for name in columns[0]}
    if group_name(index) not in shard_names(folder):  # another process may have been given the same folder
        write_shard(folder, group_name(index), cnn_graph(architecture), tensors, table)


def _columns(
    plan: MakingPlan,
    dataset: str,
    index: int,
    step: int,
    architecture: Architecture,
    settings: Settings,
    diverged: Array,
) -> dict[str, Any]:
    """Columns of one checkpoint of a group, (m,) each; names as in the Small CNN Zoo."""
    count = plan.group_size
    numbers = range(index * count, (index + 1) * count)
    same: dict[str, Any] = {
        "config.dataset": dataset,
        "config.activation": architecture.activation,
        "config.architecture": plan.architecture,
        "config.depth": len(architecture.layers),
        "config.widths": " ".join(str(layer.width) for layer in architecture.layers),
        "config.strides": " ".join(str(layer.stride) for layer in architecture.layers),
        "config.batch_norm": architecture.batch_norm,
        "config.residual": architecture.residual,
        "config.batch_size": plan.batch_size,
        "config.seed": plan.seed,
    }
    return {
        "run": [f"{dataset}-{plan.architecture}-{plan.seed}-{number}" for number in numbers],
        "step": [step] * count,
        "laststep": [plan.checkpoints[-1]] * count,
        # the first checkpoint at which a network was found to have left the numbers; it holds its last finite weights
        "diverged": ["" if at < 0 else str(at) for at in diverged],
        **settings.columns(),
        **{name: [value] * count for name, value in same.items()},
    }


def _in_processes(
    folder: Path, plan: MakingPlan, data: ImageData, groups: list[int], threads: int, progress: Progress
) -> None:
    """Groups in turn to `threads` processes of one thread each; what stops one of them stops the run."""
    context = multiprocessing.get_context("spawn")
    work = context.Value("d", 0.0)
    told = 0.0
    with deaf_to_interrupts():
        started = context.Pool(threads, _start_process, (folder, plan, data, work, os.getpid()))
    with started as pool:
        answers = [pool.apply_async(_process_group, (index,)) for index in groups]
        for answer in answers:
            while not answer.ready():
                answer.wait(_SECONDS_PER_REPORT)
                done = work.value
                progress.advance(done - told)
                told = done
            answer.get()
        pool.close()
        pool.join()


_PROCESS: dict[str, Any] = {}  # what a worker process was started with


def _start_process(folder: Path, plan: MakingPlan, data: ImageData, work: Any, parent: int) -> None:
    end_in_order()
    prepare_process()
    _PROCESS.update(folder=folder, plan=plan, data=place(data, plan.device), work=work, parent=parent)


def _process_group(index: int) -> None:
    reported = time.monotonic()
    waiting = 0.0

    def advance(work: float) -> None:
        nonlocal reported, waiting
        waiting += work
        if time.monotonic() - reported > _SECONDS_PER_REPORT:
            if os.getppid() != _PROCESS["parent"]:  # who started the run was killed
                os._exit(1)
            with _PROCESS["work"].get_lock():
                _PROCESS["work"].value += waiting
            waiting, reported = 0.0, time.monotonic()

    train_group(_PROCESS["folder"], _PROCESS["plan"], _PROCESS["data"], index, advance)
    with _PROCESS["work"].get_lock():
        _PROCESS["work"].value += waiting


def prepare_process() -> None:
    """One thread, no denormals, freed memory kept: what makes training fast and the same everywhere on a CPU."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Ask glibc not to give large blocks back: a step allocates the same megabytes again, and fresh pages are slow."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for option, value in (
        (-1, 2**31 - 1),
        (-2, 64 << 20),
        (-3, 2**25),
    ):  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD
        mallopt(option, value)
