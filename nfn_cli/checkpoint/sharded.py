"""checkpoint/sharded.py: one checkpoint in several safetensors files, joined by an index. No torch.

The index is JSON {"metadata": {…}, "weight_map": {tensor: file beside the index}}, as written by huggingface_hub.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output, check_output, surroundings_failed
from nfn_cli.checkpoint.mapped_tensors import MappedFile, MappedTensors, RecentWindows
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.safetensors_file import Header, layout_for, map_tensors, write_tensors
from nfn_cli.checkpoint.sniff import sniff
from nfn_cli.checkpoint.wrapper_prefix import without_wrapper_prefix
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.printable import printable

_INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True)
class Shards:
    """An index as read: its JSON, and the header of each shard by file name in order of first use."""

    index_name: str
    index: dict[str, Any]
    headers: dict[str, Header]


def shard_names(index: Path) -> tuple[str, ...]:
    """File names an index asks for, checked: each lies in or below the folder of the index.

    Raises:
        Refused: the index is malformed or a name leads elsewhere.
    """
    weight_map = _load_index(index)["weight_map"]
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise Refused("weight_map must map tensors to file names", code="bad-index")
    names = tuple(dict.fromkeys(weight_map.values()))
    for name in names:
        path = PurePosixPath(name)
        # Lexically: the file may not be there yet; where links lead is looked at when it is read.
        unsafe = not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
        if unsafe or path == PurePosixPath("."):
            raise Refused(
                "the index names a shard outside its own folder", where=printable(name), code="shard-outside-folder"
            )
    return names


def read_sharded(path: Path) -> Checkpoint:
    """Read an index and all its shards; arrays are read-only views of memory maps.

    Raises:
        Refused: a shard is missing or no safetensors file, or index and shards do not name the same tensors.
    """
    index = _load_index(path)
    weight_map: dict[str, str] = index["weight_map"]
    headers: dict[str, Header] = {}
    found: dict[str, tuple[MappedFile, str]] = {}
    recent = RecentWindows()
    metadata: dict[str, str] = {}
    for shard in shard_names(path):
        try:
            _check_link(path, path.parent / shard)
            headers[shard], file = _read_shard(path.parent / shard, recent)
            expected = {name for name, where in weight_map.items() if where == shard}
            if set(headers[shard].entries) != expected:
                odd = sorted(set(headers[shard].entries) ^ expected)[0]
                raise Refused(f"index and shard disagree about {printable(odd)}", code="bad-index")
        except Refused as error:
            raise error.located(printable(shard)) from None
        found.update({name: (file, name) for name in expected})
        metadata = dict(headers[shard].metadata) | metadata
    names = without_wrapper_prefix(name for name in weight_map if name in found)
    tensors = MappedTensors({name: found[stored] for name, stored in names.items()})
    return Checkpoint(
        path=str(path),
        container="safetensors-sharded",
        tensors=tensors,
        metadata=MappingProxyType(metadata),
        payload=Origin(
            (path, *(path.parent / shard for shard in headers)),
            tensors,
            MappingProxyType(names),
            Shards(path.name, index, headers),
        ),
    )


def write_sharded(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write shards and index; `out` is the new index (a name that ends in .json) or a folder for all of it.

    In a folder the files keep their names; beside a new index the shards are named after it. Nothing appears under its
    name before every shard is complete, and the index appears last.

    Raises:
        WrongUsage: one of the files exists and `force` is off, or is one of those that were read.
    """
    origin = origin_of(checkpoint)
    if not isinstance(origin.content, Shards):
        raise ValueError("only a checkpoint that was read from shards can be written as shards")
    shards = origin.content
    made = _make_folder(out) if out.suffix != ".json" else None
    try:
        index_path = out if out.suffix == ".json" else out / shards.index_name
        renamed = _shard_names_for(index_path, shards, own_folder=out.suffix != ".json")
        targets = [index_path, *(index_path.parent / name for name in renamed.values())]
        for target in targets:
            check_output(target, force)
            if any(_same_file(target, source) for source in origin.files):
                raise WrongUsage("the output would replace the input", where=printable(target), code="output-is-input")
        _write_all(checkpoint, shards, index_path, renamed, force)
    except BaseException:
        if made is not None:
            with suppress(OSError):
                made.rmdir()
        raise
    return (f"{len(renamed)} shards beside {printable(index_path)}",)


def index_path_for(checkpoint: Checkpoint, out: Path) -> Path:
    """Where `write_sharded` puts the index for this output."""
    content = origin_of(checkpoint).content
    return out if out.suffix == ".json" else out / (content.index_name if isinstance(content, Shards) else _INDEX_NAME)


def _write_all(checkpoint: Checkpoint, shards: Shards, index_path: Path, renamed: dict[str, str], force: bool) -> None:
    origin = origin_of(checkpoint)
    bare = {origin.stored(name): name for name in checkpoint.tensors}
    weight_map: dict[str, str] = shards.index["weight_map"]
    if set(bare) != set(weight_map):
        raise ValueError("the tensors are not those of the index")
    index = shards.index | {"weight_map": {name: renamed[shard] for name, shard in weight_map.items()}}
    # The stack closes in reverse order: the index, opened first, is renamed last.
    with ExitStack() as stack:
        index_handle = stack.enter_context(atomic_output(index_path, force))
        handles = [index_handle]
        for shard, header in shards.headers.items():
            part = _part(checkpoint, [bare[stored] for stored in header.entries])
            target = index_path.parent / renamed[shard]
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(atomic_output(target, force))
            write_tensors(handle, layout_for(part, header), header.metadata, checkpoint.tensors)
            handles.append(handle)
        index_handle.write((json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
        for handle in handles:
            handle.flush()
            os.fsync(handle.fileno())
        # from here on shards are exchanged one after another: no index is to lead to old and new ones at once
        index_path.unlink(missing_ok=True)


def _part(checkpoint: Checkpoint, names: list[str]) -> Checkpoint:
    """Only names matter to `layout_for` while they are those of the header: no array is asked for here."""
    origin = origin_of(checkpoint)
    placeholder = MappingProxyType(dict.fromkeys(names, np.zeros(0)))
    return Checkpoint(checkpoint.path, checkpoint.container, placeholder, payload=origin)


def _shard_names_for(index_path: Path, shards: Shards, own_folder: bool) -> dict[str, str]:
    if own_folder:
        return {shard: shard for shard in shards.headers}
    stem = re.sub(r"(\.safetensors)?(\.index)?\.json$", "", index_path.name)
    count = len(shards.headers)
    return {shard: f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i, shard in enumerate(shards.headers, start=1)}


def _make_folder(folder: Path) -> Path | None:
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise WrongUsage(
                "the output must be a folder or the name of an index (.json)",
                where=printable(folder),
                code="output-exists",
            ) from None
        return None
    except OSError as error:
        raise surroundings_failed(error, folder) from None
    return folder


def _same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _check_link(index: Path, shard: Path) -> None:
    """Refuse a shard that is a link out of the folder; the index may be one too, to the same place."""
    place = Path(os.path.realpath(shard))
    allowed = [Path(os.path.realpath(index.parent)), Path(os.path.realpath(index)).parent, *_hub_stores(index)]
    if not any(place.is_relative_to(folder) for folder in allowed):
        raise Refused(
            "the shard is a link to outside the folder of its index",
            fix="put the file itself there, or link index and shards to one folder",
            code="shard-outside-folder",
        )


def _hub_stores(index: Path) -> Iterator[Path]:
    """Where the cache of huggingface_hub keeps the files that CACHE/models--OWNER--NAME/snapshots/COMMIT/… link to."""
    for folder in Path(os.path.abspath(index)).parents:
        if folder.name == "snapshots" and "--" in folder.parent.name:
            repository = Path(os.path.realpath(folder.parent))
            yield from (repository / "blobs", repository.parent / "blobs")


def _read_shard(path: Path, recent: RecentWindows) -> tuple[Header, MappedFile]:
    if not path.is_file():
        raise Refused("the shard is missing", fix="download all files of the index", code="missing-shard")
    kind = sniff(path)
    if kind != "safetensors":
        raise Refused(
            f"a shard must be safetensors, this is {kind}", fix="convert it to safetensors", code="wrong-shard"
        )
    return map_tensors(path, recent)


def _load_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Refused("the index is not valid JSON", code="bad-index") from None
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise Refused("the index has no weight_map", code="bad-index")
    try:
        json.dumps(index, ensure_ascii=False).encode("utf-8")
    except (
        UnicodeEncodeError,
        RecursionError,
    ):  # JSON can spell half of a surrogate pair, which no writer could put back
        raise Refused("a name in the index is not valid Unicode", code="bad-index") from None
    return index
