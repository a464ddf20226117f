"""What exact reduction removes: python benchmarks/reduce.py [widened] [strangers] [time] [--data FOLDER]

widened: random networks of every kind, each unit split in two that share its outgoing mass, moved by a random group element,
stored in float32, and reduced: how many come back to their width, and the worst change of the outputs. strangers: published
checkpoints, how many of their units are redundant, and the largest change of outputs. time: a file of ResNet-50's shape, the
whole process.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from figures import figure
from known_networks import measured, weights
from strangers import DEFAULT, stated_activation

import nfn_cli
from nfn_cli.canonical.reduction import RULES, reduce
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph import Network

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.canonical.widening import moved, widened
from tests.symmetry.networks import ALL, Tensors, cnn, mlp, residual

FUNCTIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu")


def random_network(seed: int) -> tuple[Network, Tensors]:
    """MLPs of random depth and width, CNNs with and without norms, residual networks, and the kinds of the tests."""
    generator = np.random.default_rng(seed)
    function = FUNCTIONS[seed % len(FUNCTIONS)]
    kinds = [kind for kind in ALL if not kind.startswith(("normalized", "autoencoder"))]
    if seed % 4 == 0:
        widths = tuple(int(n) for n in generator.integers(4, 40, generator.integers(3, 6)))
        return mlp(seed, function, widths)
    if seed % 4 == 1:
        return cnn(seed, function, norm=bool(generator.integers(2)))
    if seed % 4 == 2:
        return residual(seed, ("relu", "tanh")[seed // 4 % 2])
    return ALL[kinds[seed // 4 % len(kinds)]](seed)


def undone(count: int) -> None:
    back, worst, units = 0, 0.0, 0
    for seed in range(count):
        network, tensors = random_network(seed)
        wide, more = widened(network, tensors, seed)
        more = moved(wide, more, seed)
        single = {name: array.astype(np.float32) for name, array in more.items()}
        result = reduce(Checkpoint(f"network {seed}", "npz", single), [wide])
        same = all(result.checkpoint.tensors[name].shape == array.shape for name, array in tensors.items())
        back, worst, units = back + same, max(worst, result.relative_change), units + len(result.removed)
        if not same:
            print(f"network {seed} did not come back")
    print(f"{back} of {count} widened networks came back to their width; {units:,} units removed")
    print(f"worst relative change of the outputs, float32: {worst:.1e}")
    figure("back", back / count)
    figure("change", worst)


def strangers(folder: Path, how: nfn_cli.ReduceOptions) -> None:
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        print(f"skipped: {manifest} is not on this machine", file=sys.stderr)
        return
    analysed, redundant, worst = 0, 0, 0.0
    totals: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    print(f"strangers' checkpoints, {how}")
    print("| checkpoint | parameters | units removed | by rule | parameters after | change |")
    print("| --- | --- | --- | --- | --- | --- |")
    with manifest.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["expected"] == "analyse"]
    for row in rows:
        try:
            checkpoint = nfn_cli.load(folder / row["file"])
            known = checkpoint.hints.activation
            names = nfn_cli.NameOptions(activation=None if known else stated_activation(row["notes"]))
            form = nfn_cli.reduce(checkpoint, names, how, writable=False)
        except nfn_cli.NfnError as error:
            refused[error.code] += 1
            continue
        analysed += 1
        worst = max(worst, form.relative_change)
        counts = Counter(unit.rule for unit in form.removed)
        totals.update(counts)
        if form.removed:
            redundant += 1
            said = ", ".join(f"{counts[rule]} {rule}" for rule in RULES if counts[rule])
            before, after = form.parameters
            name = row["file"][:48]
            print(f"| {name} | {before:,} | {len(form.removed)} | {said} | {after:,} | {form.relative_change:.0e} |")
    print(f"{analysed} analysed, {redundant} of them smaller; units: {dict(totals)}; largest change {worst:.1e}")
    print(f"refused: {dict(refused)}")


def timing(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
        size = weights("torchvision:resnet50", path)
        command = [sys.executable, "-m", "nfn_cli.cli.main", "reduce", str(path), "-o", str(out), "--force"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        seconds, memory = measured(command, runs)
        user = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before) / runs
        print(f"ResNet-50: {seconds:.2f} s, {user:.2f} s of processor time")
        print(f"peak {memory / 1e6:.0f} MB ({memory / size:.2f} × the file)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["widened", "strangers", "time"])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if "widened" in options.parts:
        undone(options.count)
    if "strangers" in options.parts:
        for how in (nfn_cli.ReduceOptions(), nfn_cli.ReduceOptions((-1.0, 1.0), linear=True)):
            strangers(options.data, how)
    if "time" in options.parts:
        timing(options.runs)


if __name__ == "__main__":
    main()
