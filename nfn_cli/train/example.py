"""train/example.py: takes one row of a zoo's test side out as a checkpoint of its own. Knows zoo/ and the split.

    python -m nfn_cli.train.example --zoo ZOO_DIR --activation relu --out models/examples/cifar10gs-relu.safetensors

The row is fixed by a rule, not picked by how well it is predicted: the final checkpoint at the upper quartile of test
accuracy among the test runs. No predictor was trained, stopped or calibrated on its run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.safetensors_file import entry_of, write_tensors
from nfn_cli.train.generalization import GeneralizationConfig
from nfn_cli.train.recipes import GROUP_OF
from nfn_cli.zoo.small_cnn import ZooRows, read_zoo
from nfn_cli.zoo.split import split_of_run

Array = np.ndarray[Any, np.dtype[Any]]


def example_row(folder: str | Path, activation: str, seed: int = 0) -> ZooRows:
    """The one row, as a zoo of length 1."""
    config = GeneralizationConfig("monomial-nfn", activation)
    zoo = read_zoo(folder, activation=activation)
    zoo = zoo.where(split_of_run(zoo.runs, config.test_fraction, seed))
    order = np.argsort(zoo.numbers("test_accuracy"), kind="stable")
    return zoo.where(order[[(3 * (len(order) - 1)) // 4]])


def torch_layout(row: ZooRows) -> dict[str, Array]:
    """conv1.weight (out, in, h, w), conv1.bias, …, fc.weight (out, in), fc.bias of a zoo of length 1."""
    tensors: dict[str, Array] = {}
    for number, (layer, weight, bias) in enumerate(zip(row.layout.layers, *row.chains(), strict=True), start=1):
        *kernel, incoming, outgoing = layer.kernel_shape
        name = f"conv{number}" if kernel else "fc"
        folded = weight[0].reshape(outgoing, weight.shape[2], -1)
        tensors[f"{name}.weight"] = np.ascontiguousarray(folded.reshape(outgoing, incoming, *kernel))
        tensors[f"{name}.bias"] = np.ascontiguousarray(bias[0])
    return tensors


def write_example(folder: str | Path, activation: str, out: Path, seed: int = 0) -> None:
    """Writes the row as safetensors with what is known about it as metadata."""
    row = example_row(folder, activation, seed)
    metadata = {
        "activation": activation,
        "pooling": "none",
        "description": "three 3x3 convolutions with stride 2 and padding 1, mean over positions, linear",
        "test_accuracy": str(row.columns["test_accuracy"][0]),
        "run": str(row.runs[0]),
        "row": str(int(row.rows[0])),
        "origin": f"{Path(folder).resolve().name}, a test run of generalization-cifar10gs-{activation}",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors = torch_layout(row)
    layout = {name: (name, entry_of(array)) for name, array in tensors.items()}
    with atomic_output(out, force=True) as handle:
        write_tensors(handle, layout, metadata, tensors)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m nfn_cli.train.example", description=__doc__)
    parser.add_argument("--zoo", required=True, help="folder with weights.npy, metrics.csv.gz and layout.csv")
    parser.add_argument("--activation", required=True, choices=sorted(GROUP_OF))
    parser.add_argument("--out", required=True, type=Path, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    options = parser.parse_args(arguments)
    write_example(options.zoo, options.activation, options.out, options.seed)


if __name__ == "__main__":
    main()
