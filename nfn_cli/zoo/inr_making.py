"""zoo/inr_making.py: an image set as a zoo of INRs, group after group, each group one shard. Knows the store; no command line.

A group's content depends on the plan and its number alone, so a run that was killed goes on with the groups that are
missing and ends with the same bytes (on one kind of processor).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo.images import ImageData, ImageSet
from nfn_cli.zoo.inr_population import FitDraw, alike_fits, draw_fits
from nfn_cli.zoo.sine_fit import FitSettings, fit_sines
from nfn_cli.zoo.store import create_zoo, shard_names, write_shard
from nfn_cli.zoo.training_run import Progress

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class InrPlan:
    """Everything that a zoo's content depends on, apart from how many groups of it are made.

    Attributes:
        hidden: widths of the sine layers.
        omega: of all of them; None draws it for each group.
        steps: of a fit, at most.
        train, test: images of either part that are used, in an order drawn with the seed; None for all.
        group_size: fits of a group.
        alike: whether all are fitted by one recipe, instead of drawn ones.
    """

    seed: int
    hidden: tuple[int, ...] = (32, 32)
    omega: float | None = None
    steps: int = 1000
    train: int | None = None
    test: int | None = None
    group_size: int = 512
    alike: bool = False

    def as_json(self) -> dict[str, Any]:
        """What a zoo says of how it is made; `alike` where it is so, as zoos did not always have it."""
        said: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return said if self.alike else {name: value for name, value in said.items() if name != "alike"}


@dataclass(frozen=True)
class _Jobs:
    """(n,) which image each fit of the zoo shows, in the order in which fits are made."""

    is_test: Array
    index: Array


def make_inr_zoo(
    folder: Path,
    plan: InrPlan,
    data: ImageData,
    *,
    groups: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Fit one INR to every image, where `folder` does not hold it yet.

    Args:
        groups: only the first so many groups; training and test images are mixed in each.

    Returns:
        Numbers of fits of the zoo, and of those made now.

    Raises:
        WrongUsage: the folder holds another zoo.
        SurroundingsFailed: disk full, no permission.
    """
    create_zoo(
        folder,
        f"INRs (sine networks) of {data.name}" + (", fitted alike" if plan.alike else ""),
        making=plan.as_json(),
        data={"name": data.name, "sha256": data.digest()},
    )
    jobs = _jobs(plan, data)
    starts = range(0, len(jobs.index), plan.group_size)[:groups]
    done = set(shard_names(folder))
    missing = [number for number in range(len(starts)) if _name(number) not in done]
    sizes = [min(plan.group_size, len(jobs.index) - start) for start in starts]
    left = sum(sizes[number] for number in missing)
    progress = progress or Progress()
    progress.begin(sum(sizes), sum(sizes) - left, left)
    for number in missing:
        rows = slice(starts[number], starts[number] + sizes[number])
        _fit_group(folder, plan, data, number, _Jobs(jobs.is_test[rows], jobs.index[rows]), device, threads, progress)
    progress.end()
    return sum(sizes), left


def _name(number: int) -> str:
    return f"group-{number:06d}"


def _jobs(plan: InrPlan, data: ImageData) -> _Jobs:
    generator = np.random.default_rng([plan.seed, 0])
    parts = [
        (is_test, generator.permutation(len(part))[:limit])
        for is_test, part, limit in ((False, data.train, plan.train), (True, data.test, plan.test))
    ]
    is_test = np.concatenate([np.full(len(rows), which) for which, rows in parts])
    index = np.concatenate([rows for _, rows in parts])
    order = generator.permutation(len(index))
    return _Jobs(is_test[order], index[order])


def _fit_group(
    folder: Path,
    plan: InrPlan,
    data: ImageData,
    number: int,
    jobs: _Jobs,
    device: str,
    threads: int,
    progress: Progress,
) -> None:
    generator = np.random.default_rng([plan.seed, 1, number])
    height, width, channels = data.train.images.shape[1:]
    widths = (2, *plan.hidden, channels)
    count = len(jobs.index)
    if plan.alike:
        draw = alike_fits(widths, plan.omega, plan.steps, count)
    else:
        draw = draw_fits(widths, plan.omega, plan.steps, _standard(data.train), count, generator)
    images = np.where(
        jobs.is_test[:, None, None, None], *(_shown(part, jobs.index) for part in (data.test, data.train))
    )
    spread = (draw.high - draw.low)[:, None, None, None]
    targets = (images * (spread / 255) + draw.low[:, None, None, None]).astype(np.float32)
    targets = targets.reshape(len(images), height * width, channels).transpose(0, 2, 1)
    initial = draw.network.initial(draw.initialization, generator)
    enough = np.nan_to_num((draw.high - draw.low) ** 2 * 10 ** (-draw.psnr / 10))  # 0: never
    fitted = fit_sines(
        draw.network,
        Coordinates(centred=draw.centred).grid(height, width).T,
        targets,
        initial,
        FitSettings(draw.rates, draw.steps, enough, draw.betas),
        device=device,
        threads=threads,
        advance=progress.advance,
    )
    with np.errstate(divide="ignore"):
        psnr = 20 * np.log10(draw.high - draw.low) - 10 * np.log10(fitted.errors)
    columns = _columns(data, draw, jobs) | {"psnr": np.round(psnr, 2), "steps": fitted.steps}
    if _name(number) not in shard_names(folder):  # another process may have been given the same folder
        write_shard(folder, _name(number), draw.network.graph(), draw.network.tensors(fitted.parameters), columns)


def _shown(part: ImageSet, index: Array) -> Array:
    """(m, h, w, c) images; of the other part any image, to be left out."""
    return part.images[np.minimum(index, len(part) - 1)]


def _standard(part: ImageSet) -> tuple[float, float]:
    """What 0 and 255 become where pixels have mean 0 and variance 1."""
    some = part.images[:10_000] / 255.0
    return float(-some.mean() / some.std()), float((1 - some.mean()) / some.std())


def _columns(data: ImageData, draw: FitDraw, jobs: _Jobs) -> dict[str, Any]:
    labels = np.where(jobs.is_test, *(_labels(part, jobs.index) for part in (data.test, data.train)))
    splits = np.where(jobs.is_test, "test", "train").tolist()
    count = len(labels)
    return {
        "run": [f"{data.name}-{split}-{index}" for split, index in zip(splits, jobs.index, strict=True)],
        "dataset": [data.name] * count,
        "split": splits,
        "index": jobs.index.tolist(),
        "label": labels.tolist(),
        "low": draw.low.tolist(),
        "high": draw.high.tolist(),
        "height": [data.train.images.shape[1]] * count,
        "width": [data.train.images.shape[2]] * count,
        "centred": [draw.centred] * count,
        "config.omega": [draw.network.omegas[0]] * count,
        "config.initialization": draw.initialization.tolist(),
        "config.learning_rate": draw.rates.tolist(),
        "config.betas": [" ".join(map(str, draw.betas))] * count,
        "config.psnr": draw.psnr.tolist(),
    }


def _labels(part: ImageSet, index: Array) -> Array:
    found: Array = part.labels[np.minimum(index, len(part) - 1)]
    return found
