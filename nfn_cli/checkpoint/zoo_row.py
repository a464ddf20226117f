"""checkpoint/zoo_row.py: one row of a zoo in the layout of the Small CNN Zoo (Unterthiner et al. 2020). No torch, no pandas.

weights.npy (rows, columns) holds a network a row, layout.csv says which columns are which tensor, metrics.csv[.gz] has
one line a row with the activation in `config.activation`.
"""

from __future__ import annotations

import ast
import csv
import gzip
import itertools
import json
import math
import zlib
from collections.abc import Container
from pathlib import Path
from types import MappingProxyType

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.model import Array, Checkpoint, Hints
from nfn_cli.checkpoint.numpy_file import NPY_NAME, read_npy
from nfn_cli.checkpoint.origin import Origin
from nfn_cli.checkpoint.safetensors_file import entry_of, write_tensors
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_ACTIVATION = "config.activation"
# The one architecture of these zoos: strided convolutions, then the mean over positions.
SMALL_CNN = "small-cnn-zoo"
_POOLING = "average"
_STEPS = {"stride": 2, "padding": 1}
# Its authors' training program gives Keras no padding, which is then "valid"; their table names runs by `modeldir`.
_PUBLISHED_STEPS = {"stride": 2, "padding": 0}
_PUBLISHED_COLUMN = "modeldir"
_STEPS_FILE = "architecture.json"


def is_zoo(folder: Path) -> bool:
    """Whether a folder has the files of a zoo."""
    return (folder / "weights.npy").is_file() and (folder / "layout.csv").is_file()


def row_count(folder: Path) -> int:
    """Number of rows, from the header of weights.npy alone."""
    return int(_weights(folder).shape[0])


def read_zoo_row(folder: Path, row: int) -> Checkpoint:
    """Row `row` (from 0) as named tensors: views of the memory-mapped weights.

    Raises:
        Refused: no such row, or a layout that does not tile the columns.
    """
    weights = _weights(folder)
    if not 0 <= row < weights.shape[0]:
        raise Refused(f"there is no row {row}", fix=f"rows are 0 to {weights.shape[0] - 1}", code="no-such-row")
    tensors = MappingProxyType(_cut(weights[row], folder / "layout.csv"))
    metrics = next((p for p in (folder / "metrics.csv.gz", folder / "metrics.csv") if p.is_file()), None)
    measured = _metrics(metrics, row) if metrics is not None else {}
    activation = measured.get(_ACTIVATION, "").strip() or None
    steps = convolution_steps(folder, measured)
    files = (folder / "weights.npy", folder / "layout.csv", *((metrics,) if metrics is not None else ()))
    return Checkpoint(
        path=f"{folder}#{row}",
        container="zoo-row",
        tensors=tensors,
        metadata=MappingProxyType({name: str(number) for name, number in steps.items()}),
        hints=Hints(
            activation=activation,
            pooling=_POOLING,
            architecture=SMALL_CNN,
            source=metrics.name if activation and metrics else "",
        ),
        payload=Origin(files, tensors),
    )


def convolution_steps(folder: Path, columns: Container[str]) -> dict[str, int]:
    """Stride and padding of every convolution: from architecture.json where the zoo has one, else by its columns.

    Raises:
        Refused: architecture.json does not say {"stride": n, "padding": n}.
    """
    path = folder / _STEPS_FILE
    if not path.is_file():
        return _PUBLISHED_STEPS if _PUBLISHED_COLUMN in columns else _STEPS
    try:
        with path.open("rb") as handle:
            steps = json.loads(handle.read(10_000))
    except (ValueError, RecursionError):
        steps = None
    if (
        not isinstance(steps, dict)
        or set(steps) != set(_STEPS)
        or not all(type(n) is int and 0 <= n < 100 for n in steps.values())
        or not steps["stride"]
    ):
        raise Refused('needs {"stride": number, "padding": number}', where=_STEPS_FILE, code="bad-layout")
    return steps


def write_zoo_row(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the network as one safetensors file that says what the zoo said of it, so that it can be read alone."""
    hints = checkpoint.hints
    said = {"activation": hints.activation, "pooling": hints.pooling, "architecture": hints.architecture}
    metadata = dict(checkpoint.metadata) | {key: value for key, value in said.items() if value}
    layout = {name: (name, entry_of(array)) for name, array in checkpoint.tensors.items()}
    with atomic_output(out, force) as handle:
        write_tensors(handle, layout, metadata, checkpoint.tensors)
    return ("a zoo row is written as a safetensors file of its own",)


def _weights(folder: Path) -> Array:
    try:
        weights = read_npy(folder / "weights.npy").tensors[NPY_NAME]
    except Refused as error:
        raise error.located("weights.npy") from None
    if weights.ndim != 2 or weights.dtype.kind != "f":
        raise Refused(
            f"weights of shape {weights.shape} are not (rows, columns)", where="weights.npy", code="bad-layout"
        )
    return weights


def _cut(row: Array, layout: Path) -> dict[str, Array]:
    """(columns,) -> named tensors; every column belongs to exactly one tensor."""
    tensors: dict[str, Array] = {}
    position = 0
    try:
        with layout.open(newline="", encoding="utf-8") as handle:
            for line in sorted(csv.DictReader(handle), key=lambda line: int(line["start_idx"])):
                name, start, stop = line["varname"], int(line["start_idx"]), int(line["end_idx"])
                shape = _shape(line["shape"])
                if start != position or stop - start != math.prod(shape) or not name or name in tensors:
                    raise Refused(
                        f"columns {start} to {stop} do not hold shape {shape} right after column {position}",
                        where=f"layout.csv: {printable(name)}",
                        code="bad-layout",
                    )
                tensors[name] = row[start:stop].reshape(shape)
                position = stop
    except (KeyError, ValueError, TypeError, SyntaxError, csv.Error, RecursionError):
        raise Refused(
            "needs the columns varname, start_idx, end_idx and shape", where="layout.csv", code="bad-layout"
        ) from None
    if position != row.size:
        raise Refused(f"names {position} of {row.size} columns", where="layout.csv", code="bad-layout")
    return tensors


def _shape(text: str) -> tuple[int, ...]:
    shape = ast.literal_eval(text[:1000])
    if not isinstance(shape, (tuple, list)) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(text)
    return tuple(shape)


def _metrics(metrics: Path, row: int) -> dict[str, str]:
    """One line by column, reading no further than it."""
    opened = gzip.open if metrics.suffix == ".gz" else open
    try:
        with opened(metrics, "rt", newline="", encoding="utf-8") as handle:
            lines = csv.reader(handle)
            header = next(lines, [])
            found = next(itertools.islice(lines, row, None), None)
            if found is None or len(found) != len(header):
                raise Refused(f"has no full line for row {row}", where=metrics.name, code="bad-layout")
            return dict(zip(header, found, strict=True))
    except (ValueError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile):
        raise Refused("cannot be read", where=metrics.name, code="bad-layout") from None
