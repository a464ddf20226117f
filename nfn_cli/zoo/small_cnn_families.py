"""zoo/small_cnn_families.py: a zoo in the layout of the Small CNN Zoo as families of stacked tensors. Copies no weight.

Columns of weights.npy become tensors under plain names (`conv1.weight`, …, `fc.bias`) in out × in × positions order, as
views of the memory map. All rows of one activation are one family.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np

from nfn_cli.checkpoint.zoo_row import convolution_steps
from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Graph
from nfn_cli.graph.small_cnn import LayerTensors, small_cnn_graph
from nfn_cli.printable import printable
from nfn_cli.zoo.csv_blocks import Array
from nfn_cli.zoo.family import Family, StackedTensors
from nfn_cli.zoo.model import LeftOut, Zoo
from nfn_cli.zoo.small_cnn import LayerColumns, ZooLayout, ZooRows, read_zoo

_DESCRIPTION = "networks in the layout of the Small CNN Zoo (Unterthiner et al. 2020)"


def open_small_cnn_zoo(folder: str | Path) -> Zoo:
    """All rows of such a folder whose activation is known; the others are listed as left out.

    Raises:
        Refused, SurroundingsFailed: as `read_zoo`.
    """
    rows = read_zoo(folder, final_only=False)
    steps = convolution_steps(Path(folder), rows.columns)
    names = tensor_names(rows.layout)
    source = StackedTensors(MappingProxyType(_stacked(rows, names)))
    found, of = np.unique(rows.activation.astype(str), return_inverse=True)
    families, left_out = [], []
    for number, activation in enumerate(found.tolist()):
        places = np.flatnonzero(of == number)
        try:
            graph = _graph(rows.layout, names, activation, steps)
        except WrongUsage as error:
            left_out.append(LeftOut(f"{len(places)} rows, {printable(activation)!r}", error.code, error.what))
            continue
        families.append(Family(activation, graph, places, places, (source,)))
    sources = np.arange(len(rows), dtype=np.int64)
    zoo = Zoo(str(folder), _DESCRIPTION, tuple(families), rows.columns, sources, tuple(left_out))
    return zoo.where(np.sort(np.concatenate([np.zeros(0, np.int64), *(f.rows for f in families)]))) if left_out else zoo


def tensor_names(layout: ZooLayout) -> tuple[str, ...]:
    """A plain name for each layer: `conv1`, `conv2`, … and `fc`, or `fc1`, `fc2`, … where there are several."""
    kinds = ["conv" if len(layer.kernel_shape) > 2 else "fc" for layer in layout.layers]
    counts = [kinds[: i + 1].count(kind) for i, kind in enumerate(kinds)]
    return tuple(
        kind if kind == "fc" and kinds.count("fc") == 1 else f"{kind}{count}"
        for kind, count in zip(kinds, counts, strict=True)
    )


def _stacked(rows: ZooRows, names: tuple[str, ...]) -> dict[str, Array]:
    """Name -> (all rows, out, in, *positions) or (all rows, out), views of the memory map."""
    arrays: dict[str, Array] = {}
    for name, layer in zip(names, rows.layout.layers, strict=True):
        block = rows.weights[:, slice(*layer.kernel)].reshape(len(rows.weights), *layer.kernel_shape)
        axes = range(1, block.ndim)
        arrays[f"{name}.weight"] = block.transpose(0, axes[-1], axes[-2], *axes[:-2])
        if layer.bias is not None:
            arrays[f"{name}.bias"] = rows.weights[:, slice(*layer.bias)]
    return arrays


def _graph(layout: ZooLayout, names: tuple[str, ...], activation: str, steps: dict[str, int]) -> Graph:
    layers = [_tensors(name, layer) for name, layer in zip(names, layout.layers, strict=True)]
    return small_cnn_graph(layers, activation, **steps)


def _tensors(name: str, layer: LayerColumns) -> LayerTensors:
    *kernel, incoming, outgoing = layer.kernel_shape
    bias = None if layer.bias is None else f"{name}.bias"
    return LayerTensors(f"{name}.weight", bias, (outgoing, incoming, *kernel), 0, 1)
