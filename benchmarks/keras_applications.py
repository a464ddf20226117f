"""Every model of keras.applications, with random weights, from its files: python benchmarks/keras_applications.py [MODEL…]

Needs Keras and a backend for it (KERAS_BACKEND, torch unless it is set). For the .keras and the .h5 file of each: how far the graph
that is read from the configuration is from what Keras computes (float32 there, float64 here); whether random group elements
pass the check; and how far Keras is from itself when it loads the canonical file. Parts left opaque are counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import nfn_cli
from nfn_cli.errors import NfnError
from nfn_cli.graph.reference import evaluate

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FLOAT32 = 1e-4
_LARGE = 100  # million parameters
_SIDE = {"Inception": 96, "Xception": 96, "NASNet": 96}


def side(name: str) -> int:
    return next((size for stem, size in _SIDE.items() if name.startswith(stem)), 64)


def made(name: str) -> Any:
    """A model whose batch norms have met something."""
    import keras

    random, size = np.random.default_rng(0), side(name)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    for weight in model.weights:
        last = weight.path.rpartition("/")[2]
        if last in ("gamma", "moving_variance", "variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif last in ("beta", "moving_mean", "bias", "mean"):
            weight.assign(0.1 * random.standard_normal(weight.shape))
    return model


def answers(model: Any, pictures: np.ndarray) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(model(pictures, training=False)), np.float64)


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(one).max())


def row(name: str, folder: Path) -> str:
    import keras

    model, size, lines = made(name), side(name), []
    if model.count_params() > 1e6 * _LARGE:
        return f"{name:20s} left out: {model.count_params() / 1e6:.0f} million parameters"
    pictures = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    before = answers(model, pictures)
    for ending in ("keras", "h5"):
        path, out = folder / f"{name}.{ending}", folder / f"{name}-canonical.{ending}"
        model.save(path)
        started = time.perf_counter()
        try:
            opened = nfn_cli.open_model(path)
            graph = opened.networks[0].graph
            fed = {graph.inputs[0].name: np.moveaxis(pictures.astype(np.float64), -1, 1)}
            (found,) = evaluate(graph, opened.checkpoint.tensors, fed)
            report = nfn_cli.symmetry_report(opened, elements=1)
            nfn_cli.save(nfn_cli.canonicalize(opened).checkpoint, out)
            after = answers(keras.models.load_model(out, compile=False), pictures)
        except (NfnError, ValueError) as error:  # Keras does not load some of what it saved
            said = "refused" if isinstance(error, NfnError) else "Keras"
            lines.append(f"{name:20s} {ending:6s} {said}: {str(error)[:80]}")
            continue
        numbers = relative(before, found), relative(before, after)
        right = report.passed and max(numbers) < FLOAT32
        opaque = len(report.networks[0].opaque)
        lines.append(
            f"{name:20s} {ending:6s} {numbers[0]:9.1e} {numbers[1]:9.1e} {opaque:7d} "
            f"{len(report.networks[0].unit_sets):6d} {time.perf_counter() - started:7.1f}  {'right' if right else 'WRONG'}"
        )
        path.unlink()
        out.unlink()
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    import keras

    names = options.models or [n for n in dir(keras.applications) if n[0].isupper()]
    print(f"{'model':20s} {'file':6s} {'graph':>9s} {'canonical':>9s} {'opaque':>7s} {'sets':>6s} {'seconds':>7s}")
    wrong = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                line = row(name, Path(folder))
            except ValueError as error:  # of Keras: a model that this backend does not have
                line = f"{name:20s} Keras: {str(error)[:80]}"
        wrong += "WRONG" in line or "refused" in line
        print(line, flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
