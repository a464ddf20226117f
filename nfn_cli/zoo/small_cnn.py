"""zoo/small_cnn.py: the layout of the Small CNN Zoo (Unterthiner et al. 2020). Knows its three files; no torch.

`weights.npy` (rows, parameters) is memory-mapped; `metrics.csv.gz` (or metrics.csv) has a line a row; `layout.csv` says
which columns are which tensor, kernels in Keras order (h, w, in, out). The published zoo and zoos made in its image
differ in columns: a run is named by `run`, `modeldir` or, failing both, by its hyper-parameters; final rows are those
of the largest `step` in the file (86 in the published one).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.numpy_file import NPY_NAME, read_npy
from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import TableFile, table_file
from nfn_cli.zoo.runs import STEP, largest_step, run_names

Array = np.ndarray[Any, np.dtype[Any]]
_ACTIVATION = "config.activation"


@dataclass(frozen=True, slots=True)
class LayerColumns:
    """Columns of one layer: half-open ranges, and the kernel's shape (h, w, in, out) or (in, out)."""

    kernel: tuple[int, int]
    bias: tuple[int, int] | None
    kernel_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ZooLayout:
    """Layers from input to output, and the number of columns they take together."""

    layers: tuple[LayerColumns, ...]
    parameters: int


@dataclass(frozen=True)
class ZooRows:
    """Some rows of a zoo. Selecting rows copies indices, never weights.

    Attributes:
        folder: as the user named it.
        layout: which columns are which tensor.
        rows: (n,) row numbers in the files.
        columns: name -> (n,) strings, as in metrics.csv, read when asked for.
        weights: all rows of the file, memory-mapped (all rows, parameters).
    """

    folder: str
    layout: ZooLayout
    rows: Array
    columns: Columns
    weights: Array

    def __len__(self) -> int:
        return len(self.rows)

    def numbers(self, column: str) -> Array:
        """A column as float64 (n,); empty cells are NaN."""
        return self.columns.numbers(column)

    @property
    def runs(self) -> Array:
        """(n,) names of the runs; rows of one run must never straddle a split."""
        return run_names(self.columns, self.folder)

    @property
    def activation(self) -> Array:
        """(n,) names as the zoo spells them."""
        if _ACTIVATION not in self.columns:
            raise Refused(
                f"metrics.csv has no column {_ACTIVATION!r}",
                where=self.folder,
                fix=f"it has: {', '.join(self.columns)}",
            )
        return self.columns[_ACTIVATION]

    def where(self, keep: Array) -> ZooRows:
        """Rows for which `keep` (bool or indices) holds."""
        return replace(self, rows=self.rows[keep], columns=self.columns.where(keep))

    def chains(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Weights (n, out, in, positions) and biases (n, out) of all layers, float32 copies of these rows only."""
        block = np.asarray(self.weights[self.rows])
        weights, biases = [], []
        width = self.layout.layers[0].kernel_shape[-2]
        for layer in self.layout.layers:
            *kernel, incoming, outgoing = layer.kernel_shape
            # Keras flattens channels last, so on a linear layer after a flatten the position is the outer part.
            spatial = int(np.prod(kernel, dtype=np.int64)) * (incoming // width)
            folded = block[:, slice(*layer.kernel)].reshape(len(block), spatial, width, outgoing)
            weights.append(np.ascontiguousarray(folded.transpose(0, 3, 2, 1)))
            bias = np.zeros((len(block), outgoing), block.dtype) if layer.bias is None else block[:, slice(*layer.bias)]
            biases.append(np.ascontiguousarray(bias))
            width = outgoing
        return tuple(weights), tuple(biases)


def read_zoo(folder: str | Path, *, activation: str | None = None, final_only: bool = True) -> ZooRows:
    """Opens a zoo folder.

    Args:
        folder: has weights.npy, metrics.csv.gz (or metrics.csv) and layout.csv.
        activation: keep the rows of this activation only.
        final_only: keep the last checkpoint of each run only.

    Raises:
        SurroundingsFailed: a file is missing or cannot be read.
        Refused: the files do not fit together.
        WrongUsage: no row has this activation.
    """
    folder = Path(folder)
    table = _open_metrics(folder)
    weights = _open_weights(folder)
    layout = _read_layout(folder / "layout.csv")
    if weights.shape != (table.lines, layout.parameters):
        raise Refused(
            f"weights.npy is {weights.shape}, metrics.csv has {table.lines} lines, layout.csv {layout.parameters} columns",
            where=str(folder),
            fix="the three files must come from one zoo",
        )
    zoo = ZooRows(str(folder), layout, np.arange(table.lines), Columns((table,)), weights)
    keep = np.ones(table.lines, dtype=bool)
    if final_only:
        keep &= zoo.numbers(STEP) == largest_step(zoo.columns, zoo.folder)
    if activation is not None:
        keep &= zoo.activation == activation
        if not keep.any():
            known = ", ".join(sorted(set(zoo.activation.tolist())))
            raise WrongUsage(f"no row with activation {activation!r}", where=str(folder), fix=f"it has: {known}")
    return zoo.where(keep)


def _open_weights(folder: Path) -> Array:
    try:
        weights = read_npy(folder / "weights.npy").tensors[NPY_NAME]
    except OSError as error:
        raise SurroundingsFailed(f"cannot read weights.npy ({error.strerror or error})", where=str(folder)) from None
    except Refused as error:
        raise error.located("weights.npy").located(printable(folder)) from None
    return weights


def _open_metrics(folder: Path) -> TableFile:
    packed = folder / "metrics.csv.gz"
    return table_file(packed if packed.exists() else folder / "metrics.csv")


def _read_layout(path: Path) -> ZooLayout:
    try:
        with open(path, newline="") as file:
            entries = list(csv.DictReader(file))
    except OSError as error:
        raise SurroundingsFailed(f"cannot read layout.csv ({error.strerror})", where=str(path.parent)) from None
    except (ValueError, csv.Error):
        raise Refused("layout.csv is no table of text", where=printable(path.parent), code="bad-layout") from None
    spans: dict[str, dict[str, tuple[tuple[int, int], tuple[int, ...]]]] = {}
    try:
        for entry in sorted(entries, key=lambda e: int(e["start_idx"])):
            layer, _, role = entry["varname"].split(":")[0].rpartition("/")
            shape = tuple(int(n) for n in re.findall(r"\d+", entry["shape"]))
            span = (int(entry["start_idx"]), int(entry["end_idx"]))
            if span[1] - span[0] != int(np.prod(shape, dtype=np.int64)):
                raise Refused(
                    f"{printable(entry['varname'])} has shape {shape} but {span[1] - span[0]} columns", where=str(path)
                )
            spans.setdefault(layer, {})[role] = (span, shape)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(f"layout.csv cannot be understood ({printable(error)})", where=printable(path)) from None
    layers = []
    for layer, roles in spans.items():
        if "kernel" not in roles or set(roles) - {"kernel", "bias"}:
            raise Refused(
                f"layer {printable(layer)} has {printable(sorted(roles))}, not a kernel and a bias", where=str(path)
            )
        bias = roles["bias"][0] if "bias" in roles else None
        layers.append(LayerColumns(roles["kernel"][0], bias, roles["kernel"][1]))
    _check_chain(layers, path)
    return ZooLayout(tuple(layers), max((span[1] for r in spans.values() for span, _ in r.values()), default=0))


def _check_chain(layers: list[LayerColumns], path: Path) -> None:
    if flat := [layer for layer in layers if len(layer.kernel_shape) < 2]:
        raise Refused(f"a kernel has the shape {flat[0].kernel_shape}", where=str(path))
    for below, above in pairwise(layers):
        incoming, outgoing = above.kernel_shape[-2], below.kernel_shape[-1]
        if incoming % outgoing or (incoming != outgoing and len(above.kernel_shape) > 2):
            raise Refused(f"a layer takes {incoming} inputs, the one below gives {outgoing}", where=str(path))
