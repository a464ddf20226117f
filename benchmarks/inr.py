"""Classifiers of INRs on INRs of test images: accuracy, as they are and under random elements of the full group; speed.

    python benchmarks/inr.py ZOO [FOLDER…] [--seeds N --model NAME… --images IMAGES --outside ZOO] [--json out.json]

FOLDER are trained classifiers (shipped names or folders). With --seeds, each --model is trained N times on the zoo first, and
the table gives mean ± standard deviation. Group elements are permutations, signs and phase shifts by up to 40 half turns of
every hidden unit (--windings), applied here by hand in float64; "float32" rounds the moved weights as a file would, "< 1e-4" is
the share of networks whose logits all change by less then. "values" is the largest change, by that rounding alone, of what the
networks show, black to white being 1: evaluated in float64, so that nothing else can have changed it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import figure

from nfn_cli.graph.model import Graph
from nfn_cli.networks.inr import Coordinates, render
from nfn_cli.predictors.inr_predictor import InrPredictor, load_inr_predictor, write_inr_predictor
from nfn_cli.train.inr_classifier import InrClassifierConfig, some, train_inr_classifier
from nfn_cli.train.inr_data import InrData, load_inrs
from nfn_cli.train.zoo_part import Part
from nfn_cli.zoo.open_zoo import open_zoo

Array = np.ndarray[Any, np.dtype[Any]]
WINDINGS = 40


def moved(
    graph: Graph, tensors: dict[str, Array], generator: np.random.Generator, windings: int = WINDINGS
) -> dict[str, Array]:
    """A random member of each network's orbit under D∞ ≀ S_n of every layer of sines; name -> (n, *shape) float64."""
    new = {name: np.array(array, np.float64) for name, array in tensors.items()}
    layers = [op for op in graph.ops if op.kind == "linear"]
    waves = [op for op in graph.ops if op.kind == "pointwise"]
    for below, wave, above in zip(layers, waves, layers[1:], strict=False):
        weight, bias, outgoing = below.parameters["weight"], below.parameters["bias"], above.parameters["weight"]
        rows, units = new[bias].shape
        sign = generator.choice([-1.0, 1.0], (rows, units))
        turns = generator.integers(-windings, windings + 1, (rows, units))
        parity = np.where(turns % 2 == 0, 1.0, -1.0)
        order = generator.permuted(np.tile(np.arange(units), (rows, 1)), axis=1)
        omega = float(wave.attributes["omega"])
        new[weight] = np.take_along_axis(new[weight] * sign[:, :, None], order[:, :, None], 1)
        new[bias] = np.take_along_axis(new[bias] * sign + turns * np.pi / omega, order, 1)
        new[outgoing] = np.take_along_axis(new[outgoing] * (sign * parity)[:, None, :], order[:, None, :], 2)
    return new


def shown_change(data: InrData, part: Part, others: dict[str, Array]) -> float:
    """Largest difference of two networks' values on the pixels, black to white being 1; everything in float64."""
    both = ({n: torch.from_numpy(np.float64(t)) for n, t in each.items()} for each in (part.tensors, others))
    pair = [render(part.graph, each, *data.size) for each in both]
    spread = (data.facts["high"] - data.facts["low"])[part.rows]
    return float(((pair[0] - pair[1]).abs().amax((1, 2, 3)).numpy() / spread).max())


def measured(predictor: InrPredictor, data: InrData, seed: int = 0, windings: int = WINDINGS) -> dict[str, float]:
    """Accuracy as they are and moved, and the largest change of a logit."""
    generator = np.random.default_rng(seed)
    right, right_moved, change, seconds, values = 0, 0, 0.0, 0.0, 0.0
    rounded: list[torch.Tensor] = []
    for part in data.parts:
        predictor.accept(part.graph)
        other = moved(part.graph, part.tensors, generator, windings)
        single = {name: array.astype(np.float32) for name, array in other.items()}
        start = time.perf_counter()
        plain = logits(predictor, part.graph, part.tensors)
        seconds += time.perf_counter() - start
        far, near = logits(predictor, part.graph, other), logits(predictor, part.graph, single)
        label = torch.from_numpy(data.label[part.rows])
        right += int((predictor.read(plain)[0].argmax(1) == label).sum())
        right_moved += int((predictor.read(near)[0].argmax(1) == label).sum())
        change = max(change, float((far - plain).abs().max()))
        rounded.append((near - plain).abs().amax(1))
        values = max(values, shown_change(data, part, single))
    return {
        "accuracy": right / len(data),
        "accuracy_moved": right_moved / len(data),
        "change": change,
        "change_float32": float(torch.cat(rounded).max()),
        "within": float((torch.cat(rounded) < 1e-4).double().mean()),
        "values_float32": values,
        "milliseconds": 1000 * seconds / len(data),
    }


def made_grey(data: InrData) -> InrData:
    """INRs of colour images with the mean of their three outputs as the only one."""
    parts = []
    for part in data.parts:
        last = [op for op in part.graph.ops if op.kind == "linear"][-1]
        roles = {last.parameters[role] for role in ("weight", "bias")}
        tensors = {n: t.mean(1, keepdims=True) if n in roles else t for n, t in part.tensors.items()}
        shapes = {n: tuple(t.shape[1:]) for n, t in tensors.items()}
        parts.append(replace(part, graph=replace(part.graph, parameter_shapes=shapes), tensors=tensors))
    return replace(data, parts=tuple(parts))


def noticed(predictor: InrPredictor, data: InrData) -> float:
    """Share of these INRs that are not in distribution."""
    odds = [predictor.read(logits(predictor, part.graph, part.tensors))[1] for part in data.parts]
    return float((torch.cat(odds) < predictor.card.least_log_odds).double().mean())


def logits(predictor: InrPredictor, graph: Graph, tensors: dict[str, Array]) -> torch.Tensor:
    """(n, outputs)."""
    return predictor.logits(predictor.encoder.encode(graph, tensors, Coordinates()))


def speed(name: str, zoo: str, count: int) -> dict[str, float]:
    """Milliseconds of processor time a network: in one batch, file by file in one process, and one command a file."""
    from nfn_cli.api import classify_inrs, open_model
    from nfn_cli.checkpoint import save

    with tempfile.TemporaryDirectory() as folder:
        opened = open_zoo(zoo, final_only=False)
        paths = [Path(folder) / f"{row}.safetensors" for row in range(count)]
        for row, path in enumerate(paths):
            save(opened.checkpoint(row), path)
        classify_inrs([open_model(paths[0])], predictor=name)  # what is loaded once is not counted
        start = time.process_time()
        for path in paths:
            classify_inrs([open_model(path)], predictor=name)
        loop = (time.process_time() - start) / count
        predictor, data = load_inr_predictor(name), some(load_inrs([zoo]), 2000, 0)
        start = time.process_time()
        for part in data.parts:
            predictor.classify(part.graph, part.tensors)
        batch = (time.process_time() - start) / len(data)
        command = ["nfn", "classify-inr", "--json", "--predictor", name]
        one, all_of_them = (_spent([*command, *map(str, some)]) for some in (paths[:1], paths))
    return {"batch": 1e3 * batch, "loop": 1e3 * loop, "command": 1e3 * one, "command_all": 1e3 * all_of_them / count}


def _spent(command: list[str]) -> float:
    """Seconds of processor time of a command and nothing else."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def trained(model: str, seed: int, options: argparse.Namespace, folder: Path) -> str:
    """Folder of a classifier trained with this seed."""
    config = InrClassifierConfig(
        model, options.images, tuple(options.outside), epochs=options.epochs, exchanged=options.exchanged, seed=seed
    )
    card, tensors = train_inr_classifier([options.zoo], config, f"{model}-{seed}", [])
    write_inr_predictor(folder / card.name, card, tensors)
    return str(folder / card.name)


def row(name: str, results: list[dict[str, float]]) -> str:
    """One line of the table."""

    def shown(key: str) -> str:
        values = 100 * np.array([result[key] for result in results])
        return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")

    change, single = (max(result[key] for result in results) for key in ("change", "change_float32"))
    values = max(result["values_float32"] for result in results)
    took, within = np.mean([result["milliseconds"] for result in results]), min(result["within"] for result in results)
    return (
        f"{name:28s} {shown('accuracy'):>14s} {shown('accuracy_moved'):>14s} "
        f"{change:10.1e} {single:10.1e} {values:9.1e} {within:8.2%} {took:8.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--outside", type=Path, action="append", default=[])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--exchanged", type=float, default=0.0)
    parser.add_argument("--count", type=int, default=10_000, help="test networks, at most")
    parser.add_argument("--files", type=int, default=100, help="files of the loop that is timed; 0: no timing")
    parser.add_argument("--windings", type=int, default=WINDINGS, help="half turns, at most")
    parser.add_argument("--strangers", help="a zoo of INRs of colour images, which are made grey and should be noticed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_inrs([options.zoo])
    data = some(data.where(data.split == "test"), options.count, 0)
    print(f"{len(data)} INRs of test images, {options.zoo}")
    print(
        f"{'':28s} {'accuracy %':>14s} {'moved %':>14s} {'Δ logit':>10s} {'float32':>10s} "
        f"{'values':>9s} {'< 1e-4':>8s} {'ms each':>8s}"
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in options.folders:
            predictor = load_inr_predictor(name)
            found[predictor.card.name] = [measured(predictor, data, windings=options.windings)]
            print(row(predictor.card.name, found[predictor.card.name]), flush=True)
            if options.strangers and predictor.card.channels == 1:
                others = made_grey(some(load_inrs([options.strangers]), 1000, 0))
                found[predictor.card.name][0]["strangers_noticed"] = noticed(predictor, others)
                print(f"    not in distribution among grey strangers: {noticed(predictor, others):.1%}", flush=True)
        for model in options.model:
            folders = [trained(model, seed, options, Path(work)) for seed in range(options.seeds)]
            found[model] = [measured(load_inr_predictor(folder), data) for folder in folders]
            print(row(f"{model}, {options.seeds} seeds", found[model]), flush=True)
    if options.files and options.folders:
        found["speed"] = speed(options.folders[0], options.zoo, options.files)
        took = found["speed"]
        print(
            f"milliseconds of processor time a network: in batch {took['batch']:.2f}; opening file by file in one process "
            f"{took['loop']:.2f} ({took['loop'] / took['batch']:.1f} times); one command a file {took['command']:.0f}, one command "
            f"for {options.files} files {took['command_all']:.1f} ({took['command'] / took['command_all']:.0f} times)"
        )
        figure("batch", took["loop"] / took["batch"])
    for name in options.folders:
        figure(name, found[name][0]["accuracy"])
    for key in ("change", "change_float32"):
        figure(key.replace("_", "-"), max(found[name][0][key] for name in options.folders))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
