"""checkpoint/torchscript_file.py: archives of torch.jit.save: the module tree, the code as text, tensors. Runs nothing.

Layout: `data.pkl` (objects), `constants.pkl` (a tuple of tensors), storages under `data/` and `constants/`, `code/**.py`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint.graph_archive import Archive, archive_checkpoint
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.storage import StoredTensor, check_byte_order, read_tensors
from nfn_cli.checkpoint.tree_pickle import Class, Object, read_tree
from nfn_cli.checkpoint.zip_guard import damaged, open_zip, read_member
from nfn_cli.errors import Refused

_MOST_CODE = 8 << 20  # bytes of all code members
_MOST_OBJECTS = 200_000
_DEEPEST = 60


@dataclass(frozen=True)
class Script:
    """A program as its archive has it.

    Attributes:
        module: the object whose `forward` is the network.
        code: qualified name of a code file ("__torch__.torch.nn.functional") -> its text.
        constants: what the code calls CONSTANTS.c0, c1, …
        names: id of a tensor in the tree -> its name in the checkpoint.
    """

    module: Object
    code: Mapping[str, str]
    constants: tuple[Any, ...]
    names: Mapping[int, str]


def read_torchscript(path: Path) -> Checkpoint:
    """Read an archive.

    Raises:
        Refused: damaged, quantized, or with values that have no plain form.
    """
    with open_zip(path) as archive:
        check_byte_order(archive)
        root = _root(archive)
        module = read_tree(_member(archive, root + "data.pkl"), root + "data/")
        constants = read_tree(_member(archive, root + "constants.pkl"), root + "constants/")
        if not isinstance(module, Object) or not isinstance(constants, tuple):
            raise Refused("the archive holds no TorchScript module", code="bad-header")
        stored: dict[str, StoredTensor] = {}
        names: dict[int, str] = {}
        for name, tensor in (*_tensors(module), *((f"CONSTANTS.c{i}", c) for i, c in enumerate(constants))):
            if isinstance(tensor, StoredTensor):
                stored[name] = tensor
                names.setdefault(id(tensor), name)
        script = Script(module, _code(archive, root), constants, names)
        return archive_checkpoint(path, "torchscript", read_tensors(path, archive, stored), Archive(script, stored))


def _root(archive: zipfile.ZipFile) -> str:
    found = [n.removesuffix("constants.pkl") for n in archive.namelist() if n.endswith("/constants.pkl")]
    if len(found) != 1:
        raise damaged("the archive is no TorchScript module", "truncated")
    return found[0]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return read_member(archive, archive.getinfo(name))
    except KeyError:
        raise damaged("the archive lacks a part", "truncated", name) from None


def _tensors(module: Object) -> Iterator[tuple[str, StoredTensor]]:
    """Tensors by the path of attributes that leads to them; every path, as a state dict has shared modules."""
    stack: list[tuple[str, int, Any]] = [("", 0, module)]
    count = 0
    while stack:
        path, depth, value = stack.pop()
        count += 1
        if count > _MOST_OBJECTS or depth > _DEEPEST:
            raise Refused("the module tree is too large", code="too-large")
        if isinstance(value, StoredTensor):
            yield path, value
            continue
        if isinstance(value, Object):
            value = value.state
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        )
        prefix = f"{path}." if path else ""
        found = [
            (f"{prefix}{key}", depth + 1, part)
            for key, part in items
            if not isinstance(key, (Object, Class, StoredTensor))
        ]
        stack.extend(reversed(found))


def _code(archive: zipfile.ZipFile, root: str) -> dict[str, str]:
    members = [i for i in archive.infolist() if i.filename.startswith(f"{root}code/") and i.filename.endswith(".py")]
    if sum(info.file_size for info in members) > _MOST_CODE:
        raise Refused("the program of the archive is too long", code="too-large")
    code = {}
    for info in members:
        name = info.filename[len(root) + len("code/") : -len(".py")].replace("/", ".")
        try:
            code[name] = read_member(archive, info).decode("utf-8")
        except UnicodeDecodeError:
            raise damaged("the program is no text", "bad-graph", info.filename) from None
    return code
