"""checkpoint/pt2_file.py: archives of torch.export.save: the program as JSON values, its weights as arrays. Runs nothing.

Two layouts: that of torch 2.8 and later (`models/*.json`, `data/weights/*`: torch.export.pt2_archive) and the one before it
(`serialized_exported_program.json`, `serialized_state_dict.pt`: torch.export.load).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint.graph_archive import Archive, archive_checkpoint
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.storage import StoredTensor, check_byte_order, read_tensors, read_tensors_in_memory
from nfn_cli.checkpoint.tree_pickle import read_tree
from nfn_cli.checkpoint.zip_guard import checked_zip, open_zip, read_member
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

OLD_PROGRAM, _OLD_WEIGHTS, _OLD_CONSTANTS = (
    "serialized_exported_program.json",
    "serialized_state_dict.pt",
    "serialized_constants.pt",
)
_SMALL = 1 << 16  # bytes of a constant that may stand in the graph

# torch._export.serde.schema.ScalarType -> names of element types as safetensors has them
_DTYPES = {1: "U8", 2: "I8", 3: "I16", 4: "I32", 5: "I64", 6: "F16", 7: "F32", 8: "F64", 10: "C64", 12: "BOOL", 13: "BF16",
           28: "U16", 29: "F8_E4M3", 30: "F8_E5M2", 34: "U32", 35: "U64"}  # fmt: skip


@dataclass(frozen=True)
class ExportProgram:
    """A program as its archive has it.

    Attributes:
        values: the JSON object of torch._export.serde.schema.ExportedProgram; nothing in it has been checked.
        constants: small tensors that the program holds beside its weights, as nested lists.
    """

    values: Mapping[str, Any]
    constants: Mapping[str, Any]


def read_pt2(path: Path) -> Checkpoint:
    """Read an archive.

    Raises:
        Refused: damaged, no program or several, weights in a pickle that needs more than tensors.
    """
    with open_zip(path) as archive:
        check_byte_order(archive)
        names = archive.namelist()
        if OLD_PROGRAM in names:
            return _old(path, archive)
        programs = [name for name in names if "/models/" in name and name.endswith(".json")]
        if len(programs) != 1:
            raise Refused(f"the archive holds {len(programs)} programs, one is needed", code="several-programs")
        root, _, file = programs[0].rpartition("/models/")
        model = file.removesuffix(".json")
        values = _json(archive, programs[0])
        constants = _payload(archive, f"{root}/data/constants/", f"{model}_constants_config.json")
        small = {n: t for n, t in constants.items() if archive.getinfo(t.member).file_size <= _SMALL}
        program = ExportProgram(values, _lists(read_tensors_in_memory(archive, small)))
        legacy = f"{root}/data/weights/{model}.pt"
        if legacy in names:
            return _with_inner(path, archive, program, legacy)
        stored = _payload(archive, f"{root}/data/weights/", f"{model}_weights_config.json")
        return archive_checkpoint(path, "pt2", read_tensors(path, archive, stored), Archive(program, stored))


def _old(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    constants: dict[str, Array] = {}
    if _OLD_CONSTANTS in archive.namelist():
        _, constants = _state_dict(archive, _OLD_CONSTANTS)
    program = ExportProgram(
        _json(archive, OLD_PROGRAM), _lists({n: a for n, a in constants.items() if a.nbytes <= _SMALL})
    )
    return _with_inner(path, archive, program, _OLD_WEIGHTS)


def _with_inner(path: Path, archive: zipfile.ZipFile, program: ExportProgram, member: str) -> Checkpoint:
    stored, tensors = _state_dict(archive, member)
    for array in tensors.values():
        array.flags.writeable = False
    return archive_checkpoint(path, "pt2", tensors, Archive(program, stored, member))


def _state_dict(archive: zipfile.ZipFile, member: str) -> tuple[dict[str, StoredTensor], dict[str, Array]]:
    """Tensors of a file of torch.save in the archive."""
    try:
        data = read_member(archive, archive.getinfo(member))
    except KeyError:
        raise Refused("the archive has no weights", where=member, code="truncated") from None
    if not data:
        return {}, {}
    with checked_zip(BytesIO(data), len(data)) as inner:
        pickles = [name for name in inner.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused("the weights are no file of torch.save", where=printable(member), code="truncated")
        tree = read_tree(read_member(inner, inner.getinfo(pickles[0])), pickles[0].removesuffix(".pkl") + "/")
        if not isinstance(tree, dict):
            raise Refused("the weights are no state dict", where=printable(member), code="bad-header")
        stored = {str(name): tensor for name, tensor in tree.items() if isinstance(tensor, StoredTensor)}
        return stored, read_tensors_in_memory(inner, stored)


def _json(archive: zipfile.ZipFile, member: str) -> Mapping[str, Any]:
    try:
        values = json.loads(read_member(archive, archive.getinfo(member)))
    except KeyError:
        raise Refused("the archive lacks a part", where=printable(member), code="truncated") from None
    except (ValueError, RecursionError, MemoryError):
        raise Refused("the JSON is damaged", where=printable(member), code="bad-header") from None
    if not isinstance(values, dict):
        raise Refused("the JSON is no object", where=printable(member), code="bad-header")
    return values


def _payload(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, StoredTensor]:
    """Where the tensors of a payload config lie; pickled ones and other objects are left out."""
    if folder + config not in archive.NameToInfo:
        return {}
    stored = {}
    try:
        for name, meta in _json(archive, folder + config)["config"].items():
            tensor = meta["tensor_meta"]
            if meta["use_pickle"] or tensor is None:
                continue
            sizes, strides = (tuple(n["as_int"] for n in tensor[key]) for key in ("sizes", "strides"))
            if tensor["layout"] != 7:
                raise Refused("the tensor is sparse", where=printable(name), code="unsupported-tensor")
            member = folder + meta["path_name"]
            if member not in archive.NameToInfo:
                raise Refused("the archive lacks the values of a tensor", where=printable(name), code="truncated")
            stored[name] = StoredTensor(
                member,
                _DTYPES[tensor["dtype"]],
                sizes,
                strides,
                tensor["storage_offset"]["as_int"],
                meta["is_param"] is True,
            )
    except (KeyError, TypeError, AttributeError):
        raise Refused("the description of the weights is damaged", where=printable(config), code="bad-header") from None
    return stored


def _lists(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {name: array.astype(float).tolist() for name, array in arrays.items() if array.dtype.kind != "c"}
