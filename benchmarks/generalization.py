"""benchmarks/generalization.py: every method of predicting test accuracy from weights, on the same held-out runs.

    python benchmarks/generalization.py --zoo ZOO_DIR [--work FOLDER] [--images IMAGES]
        [--methods "HNP; StatNet"] [--seeds 3] [--quick]

Methods learn from all checkpoints of the runs that are not test runs (split by run, 15 %, seed 0). They are then asked
about the last checkpoints of the test runs as they are, and with a random member of the orbit in their place: unit scales
U[1, 10] to U[1, 10⁴] for relu, random signs for tanh, permutations for both; moved weights are rounded to float32, as a
file would hold them. Kendall's τ is given as mean ± standard deviation over seeds (of training and of the moves). Times
are processor seconds, so that a busy machine does not show in them.

Markdown goes to standard output; with --jsonl, each cell is one line of JSON in a file. With --work, a finished cell (one
activation, method and seed) is a file there and is not computed again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import figure
from generalization_data import Split, load_split
from generalization_methods import METHODS
from generalization_setting import Setting

from nfn_cli.errors import NfnError
from nfn_cli.train.metrics import scores

ACTIVATIONS = ("relu", "tanh")
_QUICK_ROWS = 96
_FEW_ROWS, _MANY_ROWS = 32, 1024
Cell = dict[str, Any]


def cell(split: Split, method: str, setting: Setting) -> Cell:
    """Fits one method with one seed and measures it."""
    start = time.process_time()
    fitted = METHODS[method](split.train, split.target, setting)
    seconds = time.process_time() - start
    found: dict[str, dict[str, float]] = {}
    for number, (name, move) in enumerate(split.moves.items()):
        result = scores(fitted.guess(split.moved_test(move, 1000 * setting.seed + number)), split.actual)
        found[name] = {"kendall_tau": result.kendall_tau, "r2": result.r2, "mae": result.mae}
    return {
        "schema": "nfn.benchmark.generalization/1",
        "activation": split.test.activation,
        "method": method,
        "seed": setting.seed,
        "quick": setting.quick,
        "train_rows": len(split.train),
        "test_rows": len(split.test),
        "scores": found,
        "parameters": fitted.parameters,
        "train_seconds": seconds,
        "networks_per_second": throughput(fitted.guess, split, 0.2 if setting.quick else 2.0),
    }


def throughput(guess: Any, split: Split, seconds: float = 2.0) -> float:
    """Networks read, prepared and predicted a second in one batch, on one thread, the better of two runs.

    Args:
        seconds: how long a run shall last, about; the batch is chosen accordingly.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first = _seconds(guess, split, _FEW_ROWS)
        rows = int(np.clip(_FEW_ROWS * seconds / max(first, 1e-3), _FEW_ROWS, _MANY_ROWS))
        return max(_FEW_ROWS / first, *(rows / _seconds(guess, split, rows) for _ in range(2)))
    finally:
        torch.set_num_threads(threads)


def _seconds(guess: Any, split: Split, rows: int) -> float:
    batch = split.train.take(np.arange(rows) % len(split.train))
    start = time.process_time()
    guess(batch)
    return time.process_time() - start


def finished(work: Path | None, activation: str, method: str, setting: Setting) -> Path | None:
    """Where a cell lies once it is done."""
    if work is None:
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")
    return work / f"{activation}.{slug}.{setting.seed}{'.quick' if setting.quick else ''}.json"


def cells(split: Split, methods: Sequence[str], settings: Sequence[Setting], work: Path | None) -> Iterable[Cell]:
    """All cells of one activation; those that lie in the work folder, measured on as many rows, are read."""
    for method in methods:
        for setting in settings:
            path = finished(work, split.test.activation, method, setting)
            if path is not None and path.exists():
                known: Cell = json.loads(path.read_text())
                if (known["train_rows"], known["test_rows"]) == (len(split.train), len(split.test)):
                    yield known
                    continue
            try:
                result = cell(split, method, setting)
            except NfnError as error:
                print(f"{method}: left out: {error}", file=sys.stderr)
                break
            if path is not None:
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(result))
                partial.replace(path)
            print(
                f"{split.test.activation}, {method}, seed {setting.seed}: {result['train_seconds']:.0f} s",
                file=sys.stderr,
            )
            yield result


def table(activation: str, found: Sequence[Cell]) -> str:
    """Markdown: one row a method."""
    moves = list(found[0]["scores"])
    head = ["method", *(f"τ {name}" for name in moves), "parameters", "train s", "networks/s"]
    lines = [f"\n{activation}: {found[0]['test_rows']} held-out runs, {found[0]['train_rows']} training checkpoints\n"]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for method in dict.fromkeys(c["method"] for c in found):
        mine = [c for c in found if c["method"] == method]
        parameters = mine[0]["parameters"]
        row = [method, *(_mean_and_spread([c["scores"][name]["kendall_tau"] for c in mine]) for name in moves)]
        row += ["" if parameters is None else f"{parameters:,}"]
        row += [f"{np.mean([c['train_seconds'] for c in mine]):.0f}"]
        row += [f"{np.mean([c['networks_per_second'] for c in mine]):,.0f}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def leave(activation: str, found: Sequence[Cell]) -> None:
    """The default predictor's τ, its lead over methods that are not the tool's own, and what the group changes of it."""

    def tau(method: str) -> list[float]:
        mine = [c["scores"] for c in found if c["method"] == method]
        return [float(np.mean([each[move]["kendall_tau"] for each in mine])) for move in mine[0]]

    methods = {c["method"] for c in found}
    rivals = [
        m
        for m in ("NP", "HNP", "StatNet", "raw statistics, boosting", "invariant statistics, boosting")
        if m in methods
    ]
    if "shipped, probes" not in methods or not rivals:
        return
    ours = tau("shipped, probes")
    figure(f"{activation}-tau", ours[0])
    figure(f"{activation}-lead", ours[0] - max(tau(rival)[0] for rival in rivals))
    figure(f"{activation}-moves", max(abs(value - ours[0]) for value in ours))


def _mean_and_spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, help="a zoo in any form that `nfn zoo info` reads")
    parser.add_argument("--activation", action="append", choices=ACTIVATIONS, help="default: both")
    parser.add_argument("--methods", help=f"names, ; between them; default: all of {'; '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, …")
    parser.add_argument("--images", type=Path, help="training images of the zoo's networks, for probes")
    parser.add_argument("--work", type=Path, help="folder of finished cells")
    parser.add_argument("--jsonl", type=Path, help="file for one JSON object a cell")
    parser.add_argument("--threads", type=int, default=1, help="while training; inference is timed on one")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, hardly any networks and training: shows that it runs"
    )
    options = parser.parse_args(arguments)
    methods = [name.strip() for name in options.methods.split(";")] if options.methods else list(METHODS)
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        parser.error(f"no method {', '.join(unknown)}; there are: {'; '.join(METHODS)}")
    torch.set_num_threads(options.threads)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    settings = [Setting(seed, options.quick, options.images) for seed in range(1 if options.quick else options.seeds)]
    lines: list[str] = []
    for activation in options.activation or ACTIVATIONS:
        split = load_split(options.zoo, activation)
        split = split.thinned(_QUICK_ROWS) if options.quick else split
        found = list(cells(split, methods, settings, options.work))
        if found:
            print(table(activation, found), flush=True)
            leave(activation, found)
        lines += [json.dumps(one) for one in found]
    if options.jsonl:
        options.jsonl.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
