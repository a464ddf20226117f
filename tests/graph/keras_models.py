"""Small Keras files made by hand, in the forms of Keras 2 (HDF5) and Keras 3 (.keras), and what their layers compute, slowly."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nfn_cli.checkpoint.keras_config import saved_names

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layer:
    """A layer, the names of the layers that it reads ("name:call" for a later call), and its variables in Keras' order."""

    kind: str
    name: str
    reads: tuple[str | tuple[str, ...], ...]
    settings: dict[str, Any]
    variables: dict[str, Array]
    inner: Model | None = None


@dataclass(frozen=True)
class Model:
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def variables(self, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Array]]:
        found: dict[tuple[str, ...], dict[str, Array]] = {}
        for layer in self.layers:
            if layer.inner is not None:
                found |= layer.inner.variables((*prefix, layer.name))
            elif layer.variables:
                found[(*prefix, layer.name)] = layer.variables
        return found


def _reference(name: str) -> list[Any]:
    layer, _, call = name.partition(":")
    return [layer, int(call or 0), 0]


def config(model: Model, keras: int) -> dict[str, Any]:
    """As `Functional.get_config` writes it."""
    entries = []
    for layer in model.layers:
        said = layer.settings if layer.inner is None else config(layer.inner, keras)["config"]
        entry = {"class_name": layer.kind, "name": layer.name, "config": {"name": layer.name, **said}}
        calls = [read if isinstance(read, tuple) else (read,) for read in layer.reads]
        if keras == 2:
            entry["inbound_nodes"] = [[[*_reference(name), {}] for name in call] for call in calls]
        else:
            entry["module"] = "keras.layers"
            tensors = [
                [{"class_name": "__keras_tensor__", "config": {"keras_history": _reference(name)}} for name in call]
                for call in calls
            ]
            entry["inbound_nodes"] = [{"args": [t if len(t) > 1 else t[0]], "kwargs": {}} for t in tensors]
        entries.append(entry)
    ends = {
        "input_layers": [_reference(name) for name in model.inputs],
        "output_layers": [_reference(name) for name in model.outputs],
    }
    return {"class_name": "Functional", "config": {"name": "model", "layers": entries, **ends}}


def write_hdf5(path: Path, model: Model) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config(model, 2))
        for place, variables in model.variables().items():
            for role, array in variables.items():
                file[f"model_weights/{place[0]}/{place[-1]}/{role}:0"] = array
    return path


def write_archive(path: Path, model: Model, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """`change` is given the layers of the configuration by their names."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        _save(file, "", model)
    with zipfile.ZipFile(path, "w") as archive:
        said = config(model, 3)
        if change is not None:
            change({entry["name"]: entry for entry in said["config"]["layers"]})
        archive.writestr("config.json", json.dumps(said))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def _save(file: Any, prefix: str, model: Model) -> None:
    for layer, name in zip(model.layers, saved_names([layer.kind for layer in model.layers]), strict=True):
        if layer.inner is not None:
            _save(file, f"{prefix}layers/{name}/", layer.inner)
        for number, array in enumerate(layer.variables.values()):
            file[f"{prefix}layers/{name}/vars/{number}"] = array


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after: ceil(size / stride) positions, the odd entry behind."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def conv(x: Array, kernel: Array, stride: int = 1, depthwise: bool = False) -> Array:
    """(N, H, W, I), (h, w, I, O) -> (N, H', W', O) with padding "same"; depthwise: (h, w, I, multiplier)."""
    h, w = kernel.shape[:2]
    x = np.pad(x, [(0, 0), same(x.shape[1], h, stride), same(x.shape[2], w, stride), (0, 0)])
    rows, columns = (x.shape[1] - h) // stride + 1, (x.shape[2] - w) // stride + 1
    out = []
    for i, j in product(range(rows), range(columns)):
        window = x[:, i * stride : i * stride + h, j * stride : j * stride + w]
        made = np.einsum("nhwi,hwim->nim", window, kernel) if depthwise else np.einsum("nhwi,hwio->no", window, kernel)
        out.append(made.reshape(len(x), -1))
    return np.stack(out, 1).reshape(len(x), rows, columns, -1)


def turned(x: Array, kernel: Array, stride: int) -> Array:
    """(N, H, W, I), (h, w, O, I) -> (N, H·stride, W·stride, O): what "same" of a transposed convolution makes."""
    h, w = kernel.shape[:2]
    full = np.zeros((len(x), (x.shape[1] - 1) * stride + h, (x.shape[2] - 1) * stride + w, kernel.shape[2]))
    for i, j in product(range(x.shape[1]), range(x.shape[2])):
        full[:, i * stride : i * stride + h, j * stride : j * stride + w] += np.einsum(
            "ni,hwoi->nhwo", x[:, i, j], kernel
        )
    starts = [(k - stride) // 2 for k in (h, w)]
    return full[:, starts[0] : starts[0] + x.shape[1] * stride, starts[1] : starts[1] + x.shape[2] * stride]


def max_pool(x: Array, kernel: int, stride: int) -> Array:
    """Windows with padding "same"; what is padded is in no window."""
    pads = [same(x.shape[axis], kernel, stride) for axis in (1, 2)]
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-np.inf)
    rows, columns = ((x.shape[axis] - kernel) // stride + 1 for axis in (1, 2))
    return np.stack(
        [
            x[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel].max((1, 2))
            for i, j in product(range(rows), range(columns))
        ],
        1,
    ).reshape(len(x), rows, columns, -1)
