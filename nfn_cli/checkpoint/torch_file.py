"""checkpoint/torch_file.py: what torch.save wrote, zip or legacy, weights only. The one place that loads torch for reading."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.pickle_scan import first_foreign, globals_of
from nfn_cli.checkpoint.refusals import STATE_DICT, refuse_torch_pickle
from nfn_cli.checkpoint.wrapper_prefix import AVERAGING_COUNTER, without_wrapper_prefix
from nfn_cli.checkpoint.zip_guard import open_zip, read_member
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

if TYPE_CHECKING:
    import torch

Key = Any
Keys = tuple[Key, ...]

_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, the keys of its storages
_TRAINING_WORDS = ("optim", "scheduler", "scaler", "rng", "replay", "history", "epoch", "args", "config")
_DEEPEST, _MOST_NODES = 60, 1_000_000  # of containers within each other
_REPEATED = 1 << 20  # bytes to which a tensor may repeat what its storage holds
_BITS = {2: "int16", 1: "uint8"}


@dataclass(frozen=True)
class Content:
    """The object as torch gave it, where in it each tensor is, and where optimizer state is."""

    tree: Any
    keys: Mapping[str, Keys]
    optimizers: tuple[Keys, ...]


def read_torch(path: Path, container: str) -> Checkpoint:
    """Read a file; a pickle that needs more than tensors and plain values is refused before anything is loaded.

    Raises:
        Refused: foreign classes ("unsafe-pickle", "whole-module"), damage ("truncated"), quantized or sparse tensors.
    """
    names = _globals_in(path, container)
    foreign = first_foreign(names)
    if foreign:
        raise refuse_torch_pickle(foreign, names)
    with path.open("rb") as handle:
        tree = load_tree(path if container == "torch-zip" else handle)
    return checkpoint_from_tree(tree, str(path), container, (path,))


def load_tree(source: Path | BinaryIO) -> Any:
    """torch.load, weights only, on the CPU; zip files on disk stay memory-mapped."""
    import warnings

    import torch

    try:
        # what torch remarks about pickle protocols is no news to the user
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(
                source, map_location="cpu", weights_only=True, **({"mmap": True} if isinstance(source, Path) else {})
            )
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise Refused(
            f"the pickle holds more than weights ({printable(reason, 100)})", fix=STATE_DICT, code="unsafe-pickle"
        ) from None
    except Exception as error:
        # a damaged pickle can make torch raise anything, struct.error and AssertionError included
        reason = str(error).split("\n")[0]
        raise Refused(
            f"torch cannot read it, the file is damaged or cut short ({printable(reason, 100)})",
            fix="download or export it again",
            code="truncated",
        ) from None


def checkpoint_from_tree(tree: Any, path: str, container: str, files: tuple[Path, ...]) -> Checkpoint:
    """Name the tensors of a nested object; what surrounds them is left aside and kept for writing."""
    _refuse_endless(tree)
    left_aside: list[str] = []
    optimizers: list[Keys] = []
    words: dict[str, Any] = {}
    found = list(_leaves(tree, (), left_aside, optimizers, words))
    keys = _named(found)
    by_keys = dict(found)
    tensors: dict[str, Array] = {}
    aliases: dict[str, str] = {}
    seen: dict[Any, str] = {}
    for name, place in keys.items():
        tensor = by_keys[place]
        tensors[name] = to_numpy(name, tensor)
        where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and where in seen:
            aliases[name] = seen[where]
        else:
            seen[where] = name
    frozen = MappingProxyType(tensors)
    return Checkpoint(
        path=path,
        container=container,
        tensors=frozen,
        hints=hints_in(words, "values beside the weights"),
        aliases=MappingProxyType(aliases),
        left_aside=tuple(left_aside),
        payload=Origin(files, frozen, MappingProxyType({}), Content(tree, MappingProxyType(keys), tuple(optimizers))),
    )


def _refuse_endless(tree: Any) -> None:
    """A pickle of a few bytes can hold itself, or double at every level: what is walked is counted first."""
    stack, visited = [(tree, 0)], 0
    while stack:
        node, depth = stack.pop()
        visited += 1
        if depth > _DEEPEST or visited > _MOST_NODES:
            raise Refused(
                "the pickle nests too deep or holds itself",
                fix="save the weights alone: a state dict",
                code="too-large",
            )
        if isinstance(node, (Mapping, list, tuple)):
            inner = node.values() if isinstance(node, Mapping) else node
            stack.extend((part, depth + 1) for part in inner if isinstance(part, (Mapping, list, tuple)))


def write_torch(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the same nesting again with the new tensors; optimizer state is dropped where weights changed."""
    tree, notes = changed_tree(checkpoint, drop_optimizer=True)
    with atomic_output(out, force) as handle:
        save_tree(tree, handle, checkpoint.container != "torch-legacy")
    return notes


def save_tree(tree: Any, handle: BinaryIO, as_zip: bool) -> None:
    import torch

    try:
        torch.save(tree, handle, _use_new_zipfile_serialization=as_zip)
    except (TypeError, AttributeError):
        # what hangs on a tensor (hooks, attributes) may be anything in a stranger's file
        raise Refused(
            "tensors carry attributes that torch cannot write", fix=STATE_DICT, code="unsupported-tensor"
        ) from None


def changed_tree(checkpoint: Checkpoint, drop_optimizer: bool) -> tuple[Any, tuple[str, ...]]:
    """The object to save: every container copied, unchanged tensors shared, tied tensors still tied."""
    origin = origin_of(checkpoint)
    content: Content = origin.content
    new: dict[Keys, Any] = {}
    for name, keys in content.keys.items():
        first = checkpoint.aliases.get(name)
        if first is not None:
            if content.keys[first] in new:
                new[keys] = new[content.keys[first]]
            continue
        array = checkpoint.tensors[name]
        if array is not origin.tensors[name]:
            try:
                new[keys] = to_torch(cast_back(array, origin.tensors[name].dtype))
            except Refused as error:
                raise error.located(printable(name)) from None
    if not new:
        return content.tree, ()
    dropped = set(content.optimizers) if drop_optimizer else set()
    notes = ("optimizer state was left out: it belongs to the old weights",) if dropped else ()
    return _replaced(content.tree, (), new, dropped), notes


def to_numpy(name: str, tensor: torch.Tensor) -> Array:
    """A read-only array that shares the tensor's memory; bfloat16 and float8 with the types of ml_dtypes."""
    import torch

    tensor = tensor.detach()
    if tensor.is_quantized:
        raise Refused(
            "the tensor is quantized", where=printable(name), fix="use the float checkpoint", code="quantized"
        )
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise Refused("the tensor is sparse or without data", where=printable(name), code="unsupported-tensor")
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > max(
        held, _REPEATED
    ):  # axes of stride 0 stand for any number of entries
        raise Refused(
            f"a tensor of shape {tuple(tensor.shape)} in {held} bytes", where=printable(name), code="unsupported-tensor"
        )
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    array: Array
    try:
        array = tensor.numpy()
    except TypeError:
        import ml_dtypes

        extended = np.dtype(getattr(ml_dtypes, str(tensor.dtype).rsplit(".", 1)[-1]))
        array = tensor.view(getattr(torch, _BITS[extended.itemsize])).numpy().view(extended)
    array = array.view()
    array.flags.writeable = False
    return array


def to_torch(array: Array) -> torch.Tensor:
    import torch

    array = np.array(array, order="C")
    if array.dtype.kind in "?iufc" and array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    bits = torch.from_numpy(array.view(_BITS[array.dtype.itemsize]))
    return bits.view(getattr(torch, array.dtype.name))


def _globals_in(path: Path, container: str) -> list[str]:
    if container == "torch-legacy":
        with path.open("rb") as handle:
            return list(globals_of(handle, _LEGACY_PICKLES))
    with open_zip(path) as archive:
        return globals_in_zip(archive)


def globals_in_zip(archive: zipfile.ZipFile) -> list[str]:
    from io import BytesIO

    info = next(i for i in archive.infolist() if i.filename == "data.pkl" or i.filename.endswith("/data.pkl"))
    return list(globals_of(BytesIO(read_member(archive, info))))


def _leaves(
    node: Any, place: Keys, left_aside: list[str], optimizers: list[Keys], words: dict[str, Any]
) -> Iterator[tuple[Keys, torch.Tensor]]:
    import torch

    if isinstance(node, torch.Tensor):
        yield place, node
        return
    items = list(node.items()) if isinstance(node, Mapping) else list(enumerate(node)) if _is_list(node) else None
    shown = printable(".".join(map(str, place)) or "content", 80)
    if items is None:
        if place:
            left_aside.append(f"{shown}: {type(node).__name__}")
            if len(place) <= 2 and isinstance(place[-1], str):
                words[place[-1]] = node
        return
    if isinstance(node, Mapping) and {"state", "param_groups"} <= set(node):
        optimizers.append(place)
        left_aside.append(f"{shown}: optimizer state")
        return
    last = str(place[-1]).lower() if place else ""
    if any(word in last for word in _TRAINING_WORDS) and not any(w in last for w in ("model", "net", "policy")):
        if "optim" in last:
            optimizers.append(place)
        left_aside.append(f"{shown}: not weights")
        if isinstance(node, Mapping):
            words.update({str(key): value for key, value in items})
        return
    plain = [
        key
        for key, value in items
        if not isinstance(value, torch.Tensor) and not _is_list(value) and not isinstance(value, Mapping)
    ]
    for key, value in items:
        if isinstance(value, torch.Tensor) and any(word in str(key).lower() for word in ("rng_state", "optimizer")):
            left_aside.append(f"{printable(key, 80)}: not weights")
        elif len(plain) > 20 and key in plain:
            continue
        else:
            yield from _leaves(value, (*place, key), left_aside, optimizers, words)
    if len(plain) > 20:
        left_aside.append(f"{shown}: {len(plain)} plain values")


def _is_list(node: Any) -> bool:
    return isinstance(node, (list, tuple)) and len(node) < 1_000_000


def _named(found: list[tuple[Keys, Any]]) -> dict[str, Keys]:
    """Names by nesting, without levels that hold everything, without the prefixes of wrappers in any group."""
    places = [place for place, _ in found]
    depth = 0
    while places and all(len(p) > depth + 1 for p in places) and len({str(p[depth]) for p in places}) == 1:
        depth += 1
    groups: dict[Keys, list[Keys]] = {}
    for place in places:
        groups.setdefault(place[depth:-1], []).append(place)
    names: dict[str, Keys] = {}
    for group, members in groups.items():
        bare = without_wrapper_prefix([str(place[-1]) for place in members if place])
        for short, place in zip(bare, members, strict=False):
            if short == AVERAGING_COUNTER:
                continue
            name = ".".join([*map(str, group), short])
            while name in names:
                name += "'"
            names[name] = place
        if not bare:
            names["tensor"] = ()
    return names


def _replaced(node: Any, place: Keys, new: Mapping[Keys, Any], dropped: set[Keys]) -> Any:
    if place in new:
        return new[place]
    if isinstance(node, Mapping):
        made = {
            key: _replaced(value, (*place, key), new, dropped)
            for key, value in node.items()
            if (*place, key) not in dropped
        }
        if type(node) is dict:
            return made
        kind: Any = type(node)
        out = kind(made)
        if hasattr(node, "_metadata"):
            out._metadata = node._metadata
        return out
    if isinstance(node, (list, tuple)):
        parts = [
            _replaced(value, (*place, i), new, dropped) for i, value in enumerate(node) if (*place, i) not in dropped
        ]
        return type(node)(parts)
    return node
