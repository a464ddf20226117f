"""Every figure that was promised, in one JSON file and one table: python benchmarks/run.py [GROUP…] [--table] [--PLACE FOLDER…]

A group is one benchmark run with fixed arguments; its figures are ratios and counts from that one run and replace those of the
run before in benchmarks/results.json, with the facts of the machine. What a group needs beside this repository is named by the
options; a group whose place is not named is left as it was, and said so. --table prints the table of the README, runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import RESULTS, VARIABLE, Promise, counted, left_in, read, table

HERE = Path(__file__).resolve().parent
PLACES = {
    "data": "images and strangers' checkpoints: mnist, fashion_mnist, cifar10, checkpoints, cnn_zoo_cifar10gs",
    "inrs": "zoos of INRs: mnist, fashion_mnist (`nfn zoo fit-inrs`)",
    "population": "zoo of benchmarks/fingerprint_population.py",
    "rebasin": "installed package rebasin (`pip install --target FOLDER rebasin`)",
    "reference": "checkout of MathematicalAI-NUS/Monomial-NFN",
    "work": "trained networks of earlier runs, used again",
}


@dataclass(frozen=True)
class Group:
    """Commands, each a script and its arguments, in which {place} stands for a folder; and what they promise."""

    commands: Sequence[str]
    promises: Mapping[str, Promise]

    def places(self) -> list[str]:
        """What has to be named."""
        return [place for place in PLACES if any("{" + place + "}" in command for command in self.commands)]


def times(what: str, sign: str, bound: float) -> Promise:
    """A ratio."""
    return Promise(what, "{:.2f}×", (sign, bound))


def share(what: str, sign: str, bound: float) -> Promise:
    """A part of a whole, in percent."""
    return Promise(what, "{:.2%}", (sign, bound))


def none(what: str) -> Promise:
    """A count that must be zero."""
    return Promise(what, "{:.0f}", ("≤", 0))


GROUPS: dict[str, Group] = {
    "start": Group(
        ["cli.py"],
        {
            "help": times("`nfn --help`, beside `import typer, rich`", "≤", 1.5),
            "report": times("`nfn symmetry-report` of 4,970 parameters, beside `import torch`", "≤", 1.0),
        },
    ),
    "files": Group(
        ["canonicalize.py", "known_networks.py --runs 2"],
        {
            "canonicalize": times("`nfn canonicalize` of 553 MB, beside loading and saving", "≤", 4.0),
            "canonicalize-memory": times("its peak memory, beside the file", "≤", 2.2),
            "resnet50-report": Promise("report of ResNet-50, seconds", "{:.1f}", ("≤", 3.0)),
            "resnet50-canonicalize": Promise("canonicalize of ResNet-50, seconds", "{:.1f}", ("≤", 6.0)),
            "densenet121-report": Promise("report of DenseNet-121, seconds", "{:.1f}", ("≤", 3.0)),
            "densenet121-canonicalize": Promise("canonicalize of DenseNet-121, seconds", "{:.1f}", ("≤", 6.0)),
        },
    ),
    "size": Group(
        ["size.py --megabytes 4096 --limit 1024"],
        {
            "addresses": times("canonicalize of a 4 GiB chain: all addresses it takes, beside the file", "≤", 0.25),
            "time": Promise("its time, beside copying the file", "{:.1f}×"),
        },
    ),
    "coverage": Group(
        ["coverage.py --table"],
        {
            "torchvision": share("torchvision's CNNs understood whole", "≥", 1.0),
            "timm": share("timm's CNN families understood whole", "≥", 0.95),
            "wrong": none("architectures with a wrong answer"),
        },
    ),
    "strangers": Group(
        ["strangers.py --data {data}/checkpoints"],
        {
            "agree": share("strangers' files answered as the reviewed table says", "≥", 1.0),
            "analysed": share("strangers' MLPs and CNNs, readable without running code, analysed", "≥", 0.95),
            "analysed-all": Promise("the same in any container, Keras files and pickled programs included", "{:.2%}"),
        },
    ),
    "identity": Group(
        ["identity.py --cases 500 --width 256"],
        {
            "copies": share("disguised copies recognised, 500 networks to width 256", "≥", 1.0),
            "misses": share("near misses turned down, 1,000", "≥", 1.0),
        },
    ),
    "fingerprint": Group(
        ["fingerprint.py {population} --copied 4992"],
        {
            "collisions": none("networks of two runs within the radius, of 100,032"),
            "missed": none("copies (orbit, half precision) beyond the radius"),
            "relu": Promise("fingerprints a second, one core, small relu CNNs", "{:,.0f}", ("≥", 1000)),
            "tanh": Promise("the same, tanh", "{:,.0f}", ("≥", 1000)),
        },
    ),
    "align": Group(
        ["align.py --data {data} --rebasin {rebasin} --work {work}/align --images 500 --runs 2"],
        {
            **{
                f"{name}-{what}": promise
                for name in ("mlp-mnist", "mlp-fashion", "vgg", "vgg-bn", "resnet20")
                for what, promise in (
                    (
                        "distance",
                        times(f"`nfn align` on {name}: balanced distance, beside the nearest rival's", "≤", 1),
                    ),
                    ("kept", times(f"{name}: distance with `--keep-scales --restarts 5`, beside the same", "≤", 1)),
                    ("barrier", Promise(f"{name}: barrier, less the lowest rival's", "{:+.3f}", ("≤", 0.01))),
                    ("speed", times(f"{name}: as fast as rebasin", "≥", 5)),
                )
            },
        },
    ),
    "quantize": Group(
        ["quantize.py accuracy --data {data}/cifar10 --work {work}/quantize"],
        {
            "lost": Promise("accuracy lost by int8 after equalizing, worst of three, points", "{:.2f}", ("≤", 0.9)),
            "moved": Promise("and what a rescaling of the weights changes of that, points", "{:.2f}", ("≤", 0.1)),
        },
    ),
    "reduce": Group(
        ["reduce.py widened"],
        {
            "back": share("widened networks back to their width, 200", "≥", 1.0),
            "change": Promise("worst change of their outputs, float32", "{:.0e}", ("≤", 1e-5)),
        },
    ),
    "generalization": Group(
        [
            "generalization.py --zoo {data}/cnn_zoo_cifar10gs --images {data}/cifar10 --seeds 1 --methods"
            " 'shipped, probes;shipped, Monomial-NFN;StatNet;raw statistics, boosting;invariant statistics, boosting'"
        ],
        {
            f"{name}-{what}": promise
            for name in ("relu", "tanh")
            for what, promise in (
                ("tau", Promise(f"τ of the default predictor, held-out {name} runs", "{:.3f}")),
                ("lead", Promise("lead over the best of three baselines", "{:+.3f}", ("≥", 0.0))),
                ("moves", Promise("its change under the group", "{:.4f}", ("≤", 0.002))),
            )
        },
    ),
    "reference": Group(
        ["reference_implementation.py --checkout {reference} --zoo {data}/cnn_zoo_cifar10gs --threads 2"],
        {
            "inference": times("Monomial-NFN in batch, beside the reference implementation", "≥", 5),
            "batch": times("a batch of networks, beside file by file", "≥", 10),
            "training": Promise("share of the reference's time to its validation τ", "{:.2f}", ("≤", 0.2)),
        },
    ),
    "zoo-making": Group(
        ["zoo_making.py --seconds 2 --repeats 3"],
        {"speed": times("`nfn zoo train-cnns`, beside a plain loop", "≥", 10)},
    ),
    "inr": Group(
        [
            "inr.py {inrs}/mnist inr-mnist inr-mnist-phasor inr-mnist-monomial-nfn",
            "inr.py {inrs}/fashion_mnist inr-fashionmnist inr-fashionmnist-phasor inr-fashionmnist-monomial-nfn --files 0",
            "inr.py {inrs}/cifar10 inr-cifar10 inr-cifar10-monomial-nfn --files 0",
        ],
        {
            "inr-mnist": share("INRs of MNIST test images classified, default", "≥", 0.984),
            "inr-mnist-phasor": share("from weights alone", "≥", 0.9659),
            "inr-mnist-monomial-nfn": share("Monomial-NFN, path products bent by sines", "≥", 0.6843),
            "inr-fashionmnist": share("FashionMNIST, default", "≥", 0.877),
            "inr-fashionmnist-phasor": share("from weights alone", "≥", 0.8078),
            "inr-fashionmnist-monomial-nfn": share("Monomial-NFN", "≥", 0.6115),
            "inr-cifar10": Promise("CIFAR-10, default", "{:.2%}"),
            "inr-cifar10-monomial-nfn": share("Monomial-NFN", "≥", 0.3423),
            "change": Promise(
                "largest change of a logit under the group, windings ±40, float64", "{:.0e}", ("≤", 1e-4)
            ),
            "change-float32": Promise("the same, moved weights rounded to float32", "{:.0e}", ("≤", 1e-4)),
            "batch": times("classification in batch, beside a loop over files", "≥", 10),
        },
    ),
    "inr-fitting": Group(
        ["inr_fitting.py --images {data}/mnist"],
        {"speed": times("`nfn fit-inr`, beside a plain loop", "≥", 20)},
    ),
    "inr-edit": Group(
        ["inr_edit.py {inrs}/mnist --images {data}/mnist --predictor inr-edit-dilate"],
        {"dilate": Promise("squared error of dilation by editing weights", "{:.4f}", ("≤", 0.0106))},
    ),
}


def machine() -> dict[str, Any]:
    """Facts that figures depend on."""
    import numpy
    import torch

    import nfn_cli

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "nfn": nfn_cli.__version__,
        "system": platform.system(),
    }


def measure(group: Group, places: Mapping[str, Path]) -> dict[str, float]:
    """Figures of one group. A benchmark that ends badly may have missed a target: what it left counts all the same."""
    import shlex

    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder) / "figures.jsonl"
        for command in group.commands:
            script, *arguments = (part.format(**places) for part in shlex.split(command))
            subprocess.run(
                [sys.executable, str(HERE / script), *arguments], env={**os.environ, VARIABLE: str(left)}, check=False
            )
        return left_in(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=", ".join(GROUPS))
    parser.add_argument("--table", action="store_true")
    for place, what in PLACES.items():
        parser.add_argument(f"--{place}", type=Path, help=what)
    given = parser.parse_args()
    if unknown := sorted(set(given.groups) - set(GROUPS)):
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    results, promises = read(), {name: group.promises for name, group in GROUPS.items()}
    if given.table:
        print(table(results, promises))
        return
    places = {place: getattr(given, place).resolve() for place in PLACES if getattr(given, place) is not None}
    for name in given.groups or GROUPS:
        if missing := [place for place in GROUPS[name].places() if place not in places]:
            print(f"{name}: left as it was, needs --{', --'.join(missing)}", file=sys.stderr)
            continue
        started = time.time()
        figures = measure(GROUPS[name], places)
        if not figures:
            print(f"{name}: left as it was, the benchmark measured nothing", file=sys.stderr)
            continue
        results = read()  # another run may have written meanwhile
        results["groups"][name] = {
            "commands": list(GROUPS[name].commands),
            "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
            "seconds": round(time.time() - started),
            "machine": machine(),
            "figures": figures,
        }
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(table(results, promises))
    met, missed, unmeasured = counted(results, promises)
    print(f"\n{met} targets met, {missed} missed, {unmeasured} not measured", file=sys.stderr)


if __name__ == "__main__":
    main()
