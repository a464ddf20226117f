"""checkpoint/torch_file.py: what torch.save wrote, zip or legacy, weights only. Torch is imported to write, and where a file
holds what only torch reads.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back, is_countable
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.legacy_torch import read_legacy
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.pickle_scan import first_foreign, globals_of
from nfn_cli.checkpoint.placed_tensors import Placed
from nfn_cli.checkpoint.refusals import STATE_DICT
from nfn_cli.checkpoint.shared_memory import check_apart
from nfn_cli.checkpoint.storage import StoredTensor, aliases_of, check_byte_order, read_tensors
from nfn_cli.checkpoint.tensor_tree import Found, Keys, named_tensors
from nfn_cli.checkpoint.tree_pickle import Machine, read_tree
from nfn_cli.checkpoint.zip_guard import open_zip, read_member
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

if TYPE_CHECKING:
    import torch

_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, the keys of its storages
_REPEATED = 1 << 20  # bytes to which a tensor may repeat what its storage holds
_BITS = {2: "int16", 1: "uint8"}


@dataclass(frozen=True)
class Content:
    """What is needed to write the file again.

    Attributes:
        load: gives the object as torch has it.
        keys: tensor name -> the keys that lead to it.
        optimizers: the keys that lead to optimizer state.
    """

    load: Callable[[], Any]
    keys: Mapping[str, Keys]
    optimizers: tuple[Keys, ...]


def read_torch(path: Path, container: str) -> Checkpoint:
    """Read a file; a pickle that needs more than tensors and plain values is read as a tree of names, and never loaded.

    Raises:
        Refused: calls of functions ("unsafe-pickle"), damage ("truncated"), quantized or sparse tensors.
    """
    if first_foreign(_globals_in(path, container)):
        from nfn_cli.checkpoint.object_file import read_objects_in_legacy, read_objects_in_zip

        return read_objects_in_zip(path) if container == "torch-zip" else read_objects_in_legacy(path)
    try:
        return _read_as_names(path, container)
    except Refused:  # what is read without torch is less than torch reads, and torch knows best what is wrong
        return checkpoint_from_tree(_loaded(path, container), str(path), container, (path,))


def _read_as_names(path: Path, container: str) -> Checkpoint:
    """The tensors of a file, memory-mapped, without importing torch."""
    if container == "torch-zip":
        with open_zip(path) as archive:
            check_byte_order(archive)
            info = _pickle_in(archive)
            tree = read_tree(read_member(archive, info), info.filename.removesuffix("data.pkl") + "data/")
            found = named_tensors(tree, StoredTensor)
            tensors = read_tensors(path, archive, found.leaves)
    else:
        with path.open("rb") as handle:
            tree, places = read_legacy(handle, path.stat().st_size, Machine(""))
        found = named_tensors(tree, StoredTensor)
        tensors = Placed(found.leaves, places, {}).tensors(path)
    content = Content(partial(_loaded, path, container), MappingProxyType(found.places), found.optimizers)
    return _checkpoint(str(path), container, tensors, aliases_of(found.leaves), found, (path,), content)


def _loaded(path: Path, container: str) -> Any:
    with path.open("rb") as handle:
        return load_tree(path if container == "torch-zip" else handle)


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
    import torch

    found = named_tensors(tree, torch.Tensor)
    tensors: dict[str, Array] = {}
    aliases: dict[str, str] = {}
    seen: dict[Any, str] = {}
    for name, (_, tensor) in found.tensors.items():
        tensors[name] = to_numpy(name, tensor)
        where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and where in seen:
            aliases[name] = seen[where]
        else:
            seen[where] = name
    content = Content(lambda: tree, MappingProxyType(found.places), found.optimizers)
    return _checkpoint(path, container, tensors, aliases, found, files, content)


def _checkpoint(
    path: str,
    container: str,
    tensors: Mapping[str, Array],
    aliases: Mapping[str, str],
    found: Found,
    files: tuple[Path, ...],
    content: Content,
) -> Checkpoint:
    frozen = MappingProxyType(dict(tensors))
    return Checkpoint(
        path=path,
        container=container,
        tensors=frozen,
        hints=hints_in(found.words, "values beside the weights"),
        aliases=MappingProxyType(dict(aliases)),
        left_aside=found.left_aside,
        payload=Origin(files, frozen, MappingProxyType({}), content),
    )


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
    changed = []
    for name, keys in content.keys.items():
        first = checkpoint.aliases.get(name)
        if first is not None:
            if content.keys[first] in new:
                new[keys] = new[content.keys[first]]
            continue
        array = checkpoint.tensors[name]
        if array is not origin.tensors[name]:
            changed.append(name)
            try:
                new[keys] = to_torch(cast_back(array, origin.tensors[name].dtype))
            except Refused as error:
                raise error.located(printable(name)) from None
    if not new:
        return content.load(), ()
    tree = content.load()
    _check_apart(tree, checkpoint, changed)
    dropped = set(content.optimizers) if drop_optimizer else set()
    notes = ("optimizer state was left out: it belongs to the old weights",) if dropped else ()
    return _replaced(tree, (), new, dropped), notes


def _check_apart(tree: Any, checkpoint: Checkpoint, changed: Sequence[str]) -> None:
    """Raises Refused where a changed tensor shares memory with another (code "shared-memory")."""
    import torch

    found = named_tensors(tree, torch.Tensor).tensors
    check_apart({name: to_numpy(name, tensor) for name, (_, tensor) in found.items()}, checkpoint.aliases, changed)


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
    if not is_countable(tensor.shape, tensor.element_size()):
        raise Refused(f"the shape {tuple(tensor.shape)} is too large", where=printable(name), code="unsupported-tensor")
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
    return list(globals_of(BytesIO(read_member(archive, _pickle_in(archive)))))


def _pickle_in(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    return next(i for i in archive.infolist() if i.filename == "data.pkl" or i.filename.endswith("/data.pkl"))


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
