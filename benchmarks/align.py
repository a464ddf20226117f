"""nfn align against rebasin and Git Re-Basin on networks trained apart: python benchmarks/align.py --data FOLDER --rebasin FOLDER

Each pair is one architecture trained twice from different seeds (kept in the work folder). The second network is brought into the
frame of the first; FOLDER of --data holds mnist, fashion_mnist and cifar10, FOLDER of --rebasin the installed package with what it
needs (`pip install --target FOLDER rebasin`).

Squared distance: over weights and biases as the files hold them (running statistics left out), which is what the rivals and
--keep-scales make small, and over all tensors with both networks in balanced form, which is what nfn align makes small: before a
batch norm the length of a weight is free, so that distances of weights as they are say little there. Barrier: the largest loss on
the straight line between the two, above the chord, at 11 points on test images; batch norm statistics are measured again at every
point. Seconds: processor time of one thread, median of interleaved runs, from two networks in memory to the aligned one.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from align_pairs import SETTINGS, Images, images_of, opened, trained
from align_rivals import Rebasin, git_rebasin
from figures import figure
from torch import nn

from nfn_cli.api import Model, align
from nfn_cli.match.comparison import cost
from nfn_cli.match.frame import framed
from nfn_cli.symmetry.solve import find_symmetry

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Tensors = Mapping[str, np.ndarray]


@dataclass
class Pair:
    """Two trained networks as modules and as the tool sees them, and images."""

    modules: tuple[nn.Module, nn.Module]
    models: tuple[Model, Model]
    images: Images
    work: Path

    def __post_init__(self) -> None:
        model = self.models[0]
        self.symmetry = find_symmetry(model.networks, model.checkpoint.aliases)
        self.used = sorted(name for net in model.networks for name in net.graph.parameter_shapes)
        self.weights = [name for name in self.used if "running_" not in name]
        self.theirs, self.ours = ({n: np.array(m.checkpoint.tensors[n]) for n in self.used} for m in self.models)
        moved = [[at for at in s.touches if at[0] in self.weights] for s in self.symmetry.unit_sets if s.permutable]
        self.axes = [axes for axes in moved if axes]

    def raw(self, tensors: Tensors) -> float:
        apart = (np.float64(tensors[n]) - np.float64(self.theirs[n]) for n in self.weights)
        return sum(float((difference**2).sum()) for difference in apart)

    def balanced(self, tensors: Tensors) -> float:
        one, other = (framed(self.symmetry, side, self.used, dead=False).tensors for side in (tensors, self.theirs))
        return cost(one, other, dict.fromkeys(self.used, 1.0))


@dataclass
class Method:
    """One way to align; `run(pair, number of the run)` gives tensors."""

    run: Callable[[Pair, int], Tensors]
    seconds: list[float] = field(default_factory=list)
    found: Tensors = field(default_factory=dict)


def by_nfn(**how: object) -> Callable[[Pair, int], Tensors]:
    def run(pair: Pair, _: int) -> Tensors:
        done = align(pair.models[1], pair.models[0], **how)
        return {name: done.checkpoint.tensors[name] for name in pair.used}

    return run


def by_responses(pair: Pair, number: int) -> Tensors:
    path = pair.work / f"inputs-{'x'.join(map(str, pair.images.shape))}.npy"
    if not path.exists():
        np.save(path, pair.images.train[:1000].numpy())
    return by_nfn(data=path)(pair, number)


def by_git_rebasin(pair: Pair, number: int) -> Tensors:
    found = git_rebasin({n: pair.ours[n] for n in pair.weights}, pair.theirs, pair.axes, seed=number)
    return {**pair.ours, **found}  # statistics are measured again where they matter


def methods(rebasin: Rebasin | None) -> dict[str, Method]:
    found = {"as trained": Method(lambda pair, _: pair.ours)}
    if rebasin is not None:

        def by_rebasin(pair: Pair, number: int) -> Tensors:
            example = torch.zeros(2, *pair.images.shape)
            return rebasin.aligned(copy.deepcopy(pair.modules[1]), pair.modules[0], example, seed=number)

        found["rebasin"] = Method(by_rebasin)
    found["Git Re-Basin"] = Method(by_git_rebasin)
    found["nfn align"] = Method(by_nfn())
    found["nfn align --keep-scales"] = Method(by_nfn(keep_scales=True))
    found["nfn align --restarts 5"] = Method(by_nfn(restarts=5))
    found["nfn align --keep-scales --restarts 5"] = Method(by_nfn(keep_scales=True, restarts=5))
    found["nfn align --data"] = Method(by_responses)
    return found


def barrier(pair: Pair, tensors: Tensors, count: int) -> float:
    """Of the test loss, on `count` test images; statistics from as many training images."""
    module = copy.deepcopy(pair.modules[0])
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    losses = []
    for part in np.linspace(0.0, 1.0, 11):
        mixed = {n: (1 - part) * np.float64(pair.theirs[n]) + part * np.float64(tensors[n]) for n in pair.weights}
        module.load_state_dict({n: torch.from_numpy(np.asarray(a, np.float32)) for n, a in mixed.items()}, strict=False)
        with torch.inference_mode():
            if norms:
                for layer in norms:
                    layer.reset_running_stats()
                    layer.momentum = None
                module.train()(pair.images.train[:count])
                module.eval()
            answers = module(pair.images.test[:count])
            losses.append(float(nn.functional.cross_entropy(answers, pair.images.test_labels[:count])))
    chord = np.linspace(losses[0], losses[-1], 11)
    return float((np.array(losses) - chord).max())


def compare(name: str, pair: Pair, rebasin: Rebasin | None, runs: int, count: int) -> bool:
    ways = methods(rebasin)
    for number in range(runs):
        for way, method in ways.items():
            if number and ("restarts" in way or way == "nfn align --data"):
                continue  # timed once
            started = time.process_time()
            tensors = method.run(pair, number)
            method.seconds.append(time.process_time() - started)
            if not method.found or pair.raw(tensors) < pair.raw(method.found):
                method.found = {n: np.array(tensors[n]) for n in pair.used}  # the best of a method's runs
    print(f"| {name} | squared distance | balanced | barrier | seconds |\n| --- | ---: | ---: | ---: | ---: |")
    figures = {}
    for way, method in ways.items():
        figures[way] = (pair.raw(method.found), pair.balanced(method.found), barrier(pair, method.found, count))
        figures[way] += (statistics.median(method.seconds),)
        raw, balanced, height, seconds = figures[way]
        print(f"| {way} | {raw:.2f} | {balanced:.2f} | {height:.3f} | {seconds:.2f} |", flush=True)
    mine, rivals = figures["nfn align"], [figures[n] for n in ("rebasin", "Git Re-Basin") if n in figures]
    kept = figures[
        "nfn align --keep-scales --restarts 5"
    ]  # as the rivals: nothing is rescaled, the best of several runs
    nearer = all(mine[1] <= rival[1] and kept[0] <= rival[0] for rival in rivals)
    lower = all(mine[2] <= rival[2] + 0.01 for rival in rivals)
    faster = figures["rebasin"][3] / mine[3] if rebasin is not None else float("nan")
    if rebasin is not None:
        figure(f"{name}-distance", mine[1] / min(rival[1] for rival in rivals))
        figure(f"{name}-kept", kept[0] / min(rival[0] for rival in rivals))
        figure(f"{name}-barrier", mine[2] - min(rival[2] for rival in rivals))
        figure(f"{name}-speed", faster)
    print(f"\n{name}: nearer {'yes' if nearer else 'NO'}, barrier no higher {'yes' if lower else 'NO'}, "
          f"{faster:.1f} times as fast as rebasin\n", flush=True)  # fmt: skip
    return nearer and lower and not faster < 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", default=list(SETTINGS), help=", ".join(SETTINGS))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rebasin", type=Path, help="folder with the package; without it, it is left out")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "nfn-align")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000, help="for a barrier")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rebasin = None if options.rebasin is None else Rebasin(options.rebasin)
    good = True
    for name in options.pairs:
        images = images_of(options.data / SETTINGS[name].data)
        modules = trained(name, 0, images, options.work), trained(name, 1, images, options.work)
        files = [options.work / f"{name}-{seed}.pt2" for seed in (0, 1)]
        models = [opened(module, images.shape, path) for module, path in zip(modules, files, strict=True)]
        pair = Pair(modules, (models[0], models[1]), images, options.work)
        good &= compare(name, pair, rebasin, options.runs, options.images)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
