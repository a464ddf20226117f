"""checkpoint/keras_file.py: Keras models: HDF5 files (.h5, .weights.h5) and .keras archives. HDF5 is read by pyfive, in Python.

Layouts: Keras 2 and legacy files of Keras 3, `model_weights/LAYER/…/kernel:0` (keras/src/legacy/saving/legacy_h5_format.py);
Keras 3, `layers/CLASS_N/vars/K` (keras/src/saving/saving_lib.py). Written again, every byte stays but those of the weights.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import safetensors_name
from nfn_cli.checkpoint.keras_config import KerasLayer, hints_of, layers_of, variables_left_out
from nfn_cli.checkpoint.model import Array, Checkpoint, Hints
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.placed_tensors import Placed
from nfn_cli.checkpoint.storage import StoredTensor, changed_members
from nfn_cli.checkpoint.zip_guard import open_zip, read_member
from nfn_cli.checkpoint.zip_patch import patch_zip
from nfn_cli.errors import Refused, not_installed
from nfn_cli.printable import printable

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
TOLD = "the Keras configuration"
_DEEPEST, _MOST_OBJECTS, _LONGEST_CONFIG = 16, 100_000, 64 << 20
_MOST_READS = 1_000_000
# Keras 3 numbers the variables of a layer in the order in which it made them
_VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("batch_normalization", ("gamma", "beta", "moving_mean", "moving_variance")),
    ("layer_normalization", ("gamma", "beta")),
    ("normalization", ("mean", "variance", "count")),
    ("separable_conv", ("depthwise_kernel", "pointwise_kernel", "bias")),
    ("depthwise_conv", ("depthwise_kernel", "bias")),
    ("p_re_lu", ("alpha",)),
    ("layer_scale", ("gamma",)),
    ("", ("kernel", "bias")),
)


@dataclass(frozen=True)
class KerasModel:
    """What a Keras file holds beside the numbers.

    Attributes:
        placed: where the numbers lie.
        config: the configuration as JSON; None where the file has none.
        no_chain: why the order of the tensors does not tell how the layers follow one another; None where it does.
        by_class: whether tensors go by the classes of their layers, counted, as Keras 3 saves weights; else by their names.
        told: where the configuration is from.
    """

    placed: Placed
    config: Any = None
    no_chain: Refused | None = None
    by_class: bool = False
    told: str = TOLD


@dataclass(frozen=True)
class _Dataset:
    """Numbers of an HDF5 file: where they are told of, and where they lie."""

    path: tuple[str, ...]
    tensor: StoredTensor
    place: tuple[int, int]


def read_hdf5(path: Path) -> Checkpoint:
    """A Keras model or its weights in an HDF5 file.

    Raises:
        SurroundingsFailed: pyfive is not installed (code "missing-extra").
        Refused: damaged, of no layout of Keras ("keras-hdf5"), or a model that is no chain of known layers.
    """
    with path.open("rb") as handle:
        datasets, config = _content(handle, path.stat().st_size)
    beside = config_beside(path) if config is None else None
    by_class = any(dataset.path[0] == "layers" for dataset in datasets)
    config = config if beside is None else beside[1]
    placed, left_aside = _placed(datasets, variables_left_out(config) if by_class else {})
    model = KerasModel(placed, config, None, by_class, TOLD if beside is None else f"{TOLD} in {beside[0].name}")
    files = (path,) if beside is None else (path, beside[0])
    return _checkpoint(files, "keras-hdf5", model, placed.tensors(path), left_aside)


def read_keras_zip(path: Path) -> Checkpoint:
    """A .keras archive; errors as `read_hdf5`."""
    with open_zip(path) as archive:
        names = set(archive.namelist())
        weights = read_member(archive, archive.getinfo(WEIGHTS))
        said = read_member(archive, archive.getinfo(CONFIG)) if CONFIG in names else b""
    datasets, _ = _content(BytesIO(weights), len(weights))
    config = _parsed(said)
    placed, left_aside = _placed(datasets, variables_left_out(config))
    model = KerasModel(placed, config, by_class=True)
    return _checkpoint((path,), "keras-zip", model, placed.tensors(weights), left_aside)


def write_keras(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """The same file with other weights, every other byte as it was.

    Raises:
        Refused: as `Placed.write` and `patch_zip`.
    """
    origin = origin_of(checkpoint)
    placed: Placed = origin.content.placed
    path, *_ = origin.files
    stale = ("the optimizer state in the file still belongs to the old weights",) if _has_optimizer(checkpoint) else ()
    if checkpoint.container == "keras-hdf5":
        placed.write(path, origin.tensors, checkpoint.tensors, out, force)
        return stale
    with open_zip(path) as archive, path.open("rb") as source, atomic_output(out, force) as target:
        weights = bytearray(read_member(archive, archive.getinfo(WEIGHTS)))
        before = bytes(weights)
        changed = changed_members(
            lambda member: _slice(before, placed.places[member]), placed.stored, origin.tensors, checkpoint.tensors
        )
        for member, data in changed:
            start, length = placed.places[member]
            weights[start : start + length] = data
        patch_zip(source, archive, target, [(WEIGHTS, bytes(weights))])
    return stale


def _has_optimizer(checkpoint: Checkpoint) -> bool:
    return any(line.startswith("optimizer") for line in checkpoint.left_aside)


def _slice(content: bytes, place: tuple[int, int]) -> bytes:
    return content[place[0] : place[0] + place[1]]


def _checkpoint(
    files: tuple[Path, ...],
    container: str,
    model: KerasModel,
    tensors: Mapping[str, Array],
    left_aside: tuple[str, ...],
) -> Checkpoint:
    frozen = MappingProxyType(dict(tensors))
    layers: tuple[KerasLayer, ...] = ()
    if model.config is not None:
        try:
            layers = layers_of(model.config)
        except Refused as refusal:
            model = replace(model, no_chain=refusal)
    names = {layer.saved if model.by_class else layer.name: layer for layer in layers}
    epsilons = {name: layer.epsilon for name, layer in names.items() if layer.epsilon is not None}
    hints = Hints()
    if layers:
        transposed = tuple(name for name, layer in names.items() if layer.transposed)
        hints = replace(
            hints_of(layers),
            order=tuple(names),
            transposed=transposed,
            epsilons=MappingProxyType(epsilons),
            source=model.told,
        )
    origin = Origin(files, frozen, content=model)
    return Checkpoint(str(files[0]), container, frozen, hints=hints, left_aside=left_aside, payload=origin)


def _content(stream: BinaryIO, size: int) -> tuple[list[_Dataset], Any]:
    """Every dataset of a file, and its model_config where it has one."""
    try:
        import pyfive
    except ImportError:
        raise not_installed("pyfive", "reading Keras files", "keras") from None
    try:
        with warnings.catch_warnings(), pyfive.File(_Bounded(stream, size)) as file:
            warnings.simplefilter("ignore")  # on attributes that nobody asks for
            said = file.attrs.get("model_config")
            return list(_datasets(file, pyfive.Dataset, size)), None if said is None else _parsed(said)
    except Refused:
        raise
    except MemoryError:
        raise
    except Exception:  # a damaged file makes a parser raise anything
        raise Refused(
            "the HDF5 file is damaged, or of a kind that is not read",
            fix="download or export it again",
            code="truncated",
        ) from None


def config_beside(path: Path) -> tuple[Path, Any] | None:
    """The configuration of a file of weights alone, where one lies beside it: `model.to_json()` under its name, or config.json."""
    stem = path.name.removesuffix(".h5").removesuffix(".hdf5").removesuffix(".weights")
    for name in (f"{stem}.json", CONFIG):
        try:
            beside = path.with_name(name)
            if not 0 < beside.stat().st_size <= _LONGEST_CONFIG:
                continue
            config = _parsed(beside.read_bytes())
        except OSError:
            continue
        if isinstance(config, dict) and isinstance(config.get("class_name"), str) and "config" in config:
            return beside, config
    return None


class _Bounded:
    """A stream for a parser that believes what a file says of lengths and addresses: no long reads, no endless ones."""

    closed = False

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size, self.left = stream, size, _MOST_READS

    def read(self, count: int = -1) -> bytes:
        self.left -= 1
        if not 0 <= count <= self.size or self.left < 0:
            raise ValueError
        return self.stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def close(self) -> None:
        """The stream belongs to who opened it."""


def _parsed(said: Any) -> Any:
    text = said if isinstance(said, (str, bytes)) else bytes(said)
    try:
        return json.loads(text) if len(text) <= _LONGEST_CONFIG else {}
    except (ValueError, RecursionError):
        return {}


def _datasets(file: Any, kind: type[Any], size: int) -> Iterator[_Dataset]:
    stack: list[tuple[tuple[str, ...], Any]] = [((), file)]
    count = 0
    while stack:
        path, group = stack.pop()
        for name in reversed(list(group.keys())):
            count += 1
            if count > _MOST_OBJECTS or len(path) > _DEEPEST:
                raise Refused("the HDF5 file nests too deep or holds itself", code="too-large")
            entry = group[name]
            if isinstance(entry, kind):
                made = _dataset((*path, str(name)), entry, size)
                if made is not None:
                    yield made
            elif hasattr(entry, "keys"):
                stack.append(((*path, str(name)), entry))


def _dataset(path: tuple[str, ...], entry: Any, size: int) -> _Dataset | None:
    """A dataset of numbers; None for text, for pointers, and for what has no numbers yet."""
    dtype, shape = np.dtype(entry.dtype), tuple(int(n) for n in entry.shape)
    if dtype.kind not in "fiu" or (dtype.byteorder == ">" and dtype.itemsize > 1):
        return None
    length = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if length == 0:
        return None
    contiguous = entry.id.layout_class == 1 and not entry.id.filter_pipeline
    start = int(entry.id.data_offset) if contiguous else -1
    if not contiguous or not 0 <= start <= size - length:
        raise Refused(
            "numbers that are compressed, or lie elsewhere",
            where=printable("/".join(path)),
            fix="save the model again with Keras",
            code="unsupported-tensor",
        )
    return _Dataset(path, StoredTensor.dense("/".join(path), safetensors_name(dtype), shape), (start, length))


def _placed(datasets: list[_Dataset], left_out: Mapping[str, frozenset[str]]) -> tuple[Placed, tuple[str, ...]]:
    """Datasets under the names of tensors."""
    stored: dict[str, StoredTensor] = {}
    places: dict[str, tuple[int, int]] = {}
    left_aside: list[str] = []
    plain = [_place(dataset.path, left_out) for dataset in datasets]
    owners: dict[str, set[str]] = {}
    for place in plain:
        if place is not None:
            owners.setdefault(place.model, set()).add(place.layer)
    for dataset, place in zip(datasets, plain, strict=True):
        name = None if place is None else place.name(len(owners[place.model]) > 1)
        if name and name.split("/")[-2].startswith("p_re_lu") and len(dataset.tensor.shape) == 1:
            name = name.replace("/alpha", "/weight")  # slopes, one for each unit, as torch names them
        if name is None or name in stored:
            left_aside.append(f"{printable('/'.join(dataset.path), 80)}: not weights")
            continue
        stored[name] = replace(dataset.tensor, member=name)
        places[name] = dataset.place
    if not stored:
        raise Refused("an HDF5 file without weights of a Keras model", code="keras-hdf5")
    return Placed(stored, places, {}), tuple(left_aside)


@dataclass(frozen=True)
class _Place:
    """Whose variable a dataset is.

    Attributes:
        model: what stands outermost in the file: a layer, or a model nested in the model.
        layer: the layer itself.
        role: which of its variables.
    """

    model: str
    layer: str
    role: str

    def name(self, nested: bool) -> str:
        """`dense_1/kernel`, or `mobilenet/Conv1/kernel` where a model of several layers is nested."""
        return f"{self.model}/{self.layer}/{self.role}" if nested else f"{self.model}/{self.role}"


def _place(path: tuple[str, ...], left_out: Mapping[str, frozenset[str]]) -> _Place | None:
    """None for optimizer state, random seeds and what is no layer's."""
    if path[0] in ("optimizer", "optimizer_weights", "vars", "_layer_checkpoint_dependencies"):
        return None
    if path[0] == "layers" and len(path) % 2 == 0 and path[-2] == "vars":
        if set(path[:-2:2]) != {"layers"} or not path[-1].isdigit():
            return None
        layers = path[1:-2:2]
        roles = next(roles for stem, roles in _VARIABLES if layers[-1].startswith(stem))
        roles = tuple(role for role in roles if role not in left_out.get("/".join(layers), ()))
        return _Place("/".join(layers), layers[-1], roles[int(path[-1])]) if int(path[-1]) < len(roles) else None
    inner = path[1:] if path[0] == "model_weights" else path
    if len(inner) < 2:
        return None
    layer = inner[-2] if len(inner) > 2 else inner[0]
    return _Place(inner[0], layer, re.sub(r":\d+$", "", inner[-1]))
