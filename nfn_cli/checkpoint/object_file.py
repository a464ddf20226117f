"""checkpoint/object_file.py: pickled objects (whole modules, classes with arrays) as checkpoints. Runs nothing of the file.

`torch.save(model)` in both its forms, and plain pickles of arrays or tensors. The pickle is read as a tree of names and
values; no class is imported. Written again, every byte stays but those of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.hint_words import hints_in, joined_hints
from nfn_cli.checkpoint.legacy_torch import read_legacy
from nfn_cli.checkpoint.model import Array, Checkpoint, Hints
from nfn_cli.checkpoint.object_tree import activation_modules, activation_words, as_plain
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.packed_file import packed, unpacked
from nfn_cli.checkpoint.pickle_scan import globals_of
from nfn_cli.checkpoint.placed_tensors import Placed
from nfn_cli.checkpoint.refusals import known_pickle, refuse
from nfn_cli.checkpoint.storage import (
    StoredTensor,
    aliases_of,
    changed_members,
    check_byte_order,
    member_bytes,
    read_tensors,
)
from nfn_cli.checkpoint.tensor_tree import named_tensors
from nfn_cli.checkpoint.tree_pickle import Machine
from nfn_cli.checkpoint.zip_guard import open_zip, read_member
from nfn_cli.checkpoint.zip_patch import patch_zip
from nfn_cli.errors import Refused


@dataclass(frozen=True)
class Objects:
    """What was in the file.

    Attributes:
        tree: the objects, as `tree_pickle` gives them.
        names: id of a tensor in the tree -> its name.
        placed: where each tensor lies; without places in a zip archive, whose members are its storages.
        packing: how the whole file is compressed; places are those in what it holds.
    """

    tree: Any
    names: Mapping[int, str]
    placed: Placed
    packing: str = ""


def read_objects_in_zip(path: Path) -> Checkpoint:
    """A zip archive of torch.save that holds objects.

    Raises:
        Refused: damaged, no tensors in it, or a call that would run a program ("unsafe-pickle").
    """
    with open_zip(path) as archive:
        check_byte_order(archive)
        name = next(n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl"))
        machine = Machine(name.removesuffix("data.pkl") + "data/", objects=True)
        tree = machine.run(read_member(archive, archive.getinfo(name)))
        stored, hints, left_aside, names = _named(tree)
        outside = {name: tensor for name, tensor in stored.items() if tensor.member not in machine.blobs}
        tensors = read_tensors(path, archive, outside)
    if len(outside) < len(stored):
        raise Refused("tensors both beside the pickle and in it", code="unsupported-tensor")
    content = Objects(tree, names, Placed(stored, {}, {}))
    return _checkpoint(path, "torch-objects-zip", tensors, content, hints, left_aside)


def read_objects_in_legacy(path: Path) -> Checkpoint:
    """A file of torch.save before 1.6 that holds objects; errors as `read_objects_in_zip`."""
    with path.open("rb") as handle:
        machine = Machine("", objects=True)
        tree, places = read_legacy(handle, path.stat().st_size, machine)
    return _in_one_file(path, "torch-objects-legacy", tree, machine, places, path)


def read_pickle(path: Path) -> Checkpoint:
    """A plain pickle.

    Raises:
        Refused: as `read_objects_in_zip`, or an object that is well known and no network.
    """
    with path.open("rb") as handle:
        return _read_pickle(path, handle, path)


def read_packed_pickle(path: Path, packing: str) -> Checkpoint:
    """A plain pickle in a compressed file, as joblib writes it.

    Raises:
        Refused: as `read_pickle` and `unpacked`; something else was compressed ("compressed").
    """
    content = unpacked(path, packing)
    if not re.match(rb"\x80[\x02-\x05]", content):
        raise refuse(packing)
    checkpoint = _read_pickle(path, BytesIO(content), content)
    origin = origin_of(checkpoint)
    return replace(checkpoint, payload=replace(origin, content=replace(origin.content, packing=packing)))


def _read_pickle(path: Path, handle: BinaryIO, source: Path | bytes) -> Checkpoint:
    machine = Machine("", objects=True)
    known = known_pickle(list(globals_of(handle)))
    if known:
        raise known
    handle.seek(0)
    tree = machine.run(handle)
    container = "torch-objects-pickle" if machine.of_torch else "pickle"
    return _in_one_file(path, container, tree, machine, {}, source)


def write_objects(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """The same file with other weights, every other byte as it was.

    Raises:
        Refused: as `Placed.write` and `patch_zip`.
    """
    origin = origin_of(checkpoint)
    content: Objects = origin.content
    (path,) = origin.files
    if content.packing:
        unchanged = unpacked(path, content.packing)
        new = packed(content.placed.written(unchanged, origin.tensors, checkpoint.tensors), content.packing)
        with atomic_output(out, force) as target:
            target.write(new)
        return ()
    if checkpoint.container != "torch-objects-zip":
        content.placed.write(path, origin.tensors, checkpoint.tensors, out, force)
        return ()
    with open_zip(path) as archive, path.open("rb") as source, atomic_output(out, force) as target:
        read = partial(member_bytes, archive)
        patch_zip(
            source, archive, target, changed_members(read, content.placed.stored, origin.tensors, checkpoint.tensors)
        )
    return ()


def _named(tree: Any) -> tuple[dict[str, StoredTensor], Hints, tuple[str, ...], dict[int, str]]:
    plain = as_plain(tree)
    found = named_tensors(plain, StoredTensor)
    if not found.tensors:
        raise Refused("a pickle of Python values without tensors or arrays", code="plain-pickle")
    stored = found.leaves
    names: dict[int, str] = {}
    for name, tensor in stored.items():
        names.setdefault(id(tensor), name)
    return stored, _hints(tree, plain, found.words), found.left_aside, names


def _hints(tree: Any, plain: Any, words: Mapping[str, Any]) -> Hints:
    hints = hints_in(words, "values beside the weights")
    by_layer = Hints(activation=activation_words(plain), source="the layers in the file")
    modules = activation_modules(tree)
    suggested = modules[0].lower() if len(modules) == 1 else None
    return replace(joined_hints(hints, by_layer if by_layer.activation else Hints()), suggested=suggested)


def _in_one_file(
    path: Path,
    container: str,
    tree: Any,
    machine: Machine,
    places: dict[str, tuple[int, int]],
    source: Path | bytes,
) -> Checkpoint:
    stored, hints, left_aside, names = _named(tree)
    used = {tensor.member for tensor in stored.values()}
    within = {member: blob for member, blob in machine.blobs.items() if member in used}
    places |= {member: (blob.position, len(blob)) for member, blob in within.items() if blob.position is not None}
    placed = Placed(stored, places, {member: blob for member, blob in within.items() if member not in places})
    return _checkpoint(path, container, placed.tensors(source), Objects(tree, names, placed), hints, left_aside)


def _checkpoint(
    path: Path,
    container: str,
    tensors: Mapping[str, Array],
    content: Objects,
    hints: Hints,
    left_aside: tuple[str, ...],
) -> Checkpoint:
    frozen = MappingProxyType(dict(tensors))
    return Checkpoint(
        str(path),
        container,
        frozen,
        hints=hints,
        aliases=MappingProxyType(aliases_of(content.placed.stored)),
        left_aside=left_aside,
        payload=Origin((path,), frozen, content=content),
    )
