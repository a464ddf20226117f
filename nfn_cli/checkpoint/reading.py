"""checkpoint/reading.py: from what the user named to a Checkpoint. One table of readers; knows no format itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from nfn_cli.checkpoint.hint_words import hints_beside, hints_in, joined_hints
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.packed_file import PACKINGS
from nfn_cli.checkpoint.sniff import sniff
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable


def _reader(module: str, function: str, *arguments: str) -> Callable[[Path], Checkpoint]:
    """A reader that is imported when a file of its kind turns up (torch files bring torch)."""

    def read(path: Path) -> Checkpoint:
        from importlib import import_module

        checkpoint: Checkpoint = getattr(import_module(f"nfn_cli.checkpoint.{module}"), function)(path, *arguments)
        return checkpoint

    return read


_READERS: dict[str, Callable[[Path], Checkpoint]] = {
    "safetensors": _reader("safetensors_file", "read_safetensors"),
    "safetensors-sharded": _reader("sharded", "read_sharded"),
    "npz": _reader("numpy_file", "read_npz"),
    "npy": _reader("numpy_file", "read_npy"),
    "torch-zip": _reader("torch_file", "read_torch", "torch-zip"),
    "torch-legacy": _reader("torch_file", "read_torch", "torch-legacy"),
    "pickle": _reader("object_file", "read_pickle"),
    "old-pickle": _reader("object_file", "read_pickle"),
    "onnx": _reader("onnx_file", "read_onnx"),
    "pt2": _reader("pt2_file", "read_pt2"),
    "torchscript": _reader("torchscript_file", "read_torchscript"),
    "hdf5": _reader("keras_file", "read_hdf5"),
    "keras-zip": _reader("keras_file", "read_keras_zip"),
    "flax": _reader("flax_file", "read_flax"),
    "sb3-zip": _reader("sb3_zip", "read_sb3"),
    **{packing: _reader("object_file", "read_packed_pickle", packing) for packing in PACKINGS},
}


def load(source: str | Path) -> Checkpoint:
    """Read a checkpoint; the content decides what it is, never the name.

    Args:
        source: a file, a folder with one checkpoint, `DIR#row` of a zoo, or `hf://owner/repo[@revision]/file`.

    Raises:
        Refused: not a checkpoint that can be read safely; the message says what it is instead.
        SurroundingsFailed: no such file, no permission, no network.
        WrongUsage: the name is empty.
    """
    text = str(source)
    try:
        checkpoint = _load(text)
        if not checkpoint.tensors:
            raise Refused("the file holds no tensors", code="no-tensors")
        if any("\ud800" <= letter <= "\udfff" for name in checkpoint.tensors for letter in name):
            raise Refused("the name of a tensor is not valid Unicode", code="bad-name")
    except NfnError as error:
        raise error.located(printable(text)) from None
    except OSError as error:
        from nfn_cli.checkpoint.atomic_write import surroundings_failed

        raise surroundings_failed(error, Path(text)) from None
    return replace(checkpoint, path=text)


def _load(text: str) -> Checkpoint:
    if not text:  # a variable that a script forgot to set; as a path it would be this folder
        raise WrongUsage("an input has an empty name", code="no-input")
    if text.startswith("hf://"):
        from nfn_cli.checkpoint.hub import fetched

        return _read_file(fetched(text))
    path = Path(text)
    row = re.fullmatch(r"(?s)(.+)#(\d+)", text)
    if row is not None and not path.exists() and Path(row[1]).is_dir():
        zoo = _zoo_in(Path(row[1]))
        if zoo is None:
            raise Refused(
                "the folder is no zoo", fix="it needs zoo.json, or weights.npy and layout.csv", code="not-a-zoo"
            )
        checkpoint: Checkpoint = zoo.read_zoo_row(Path(row[1]), int(row[2]))
        return checkpoint
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise SurroundingsFailed(
            "no such file", fix="check the path; a file on the hub is hf://owner/repo/file", code="no-such-file"
        )
    if not path.is_file():
        raise Refused("not a regular file", code="not-a-file")
    return _read_file(path)


def _zoo_in(folder: Path) -> ModuleType | None:
    """The room that reads rows of this folder: it knows is_zoo, row_count and read_zoo_row."""
    from nfn_cli.checkpoint import zoo_row, zoo_shard

    return next((form for form in (zoo_shard, zoo_row) if form.is_zoo(folder)), None)


def _read_file(path: Path) -> Checkpoint:
    kind = sniff(path)
    reader = _READERS.get(kind)
    if reader is None:
        from nfn_cli.checkpoint.refusals import refuse

        raise refuse(kind)
    checkpoint = reader(path)
    hints = joined_hints(checkpoint.hints, hints_in(checkpoint.metadata, "metadata"))
    return replace(checkpoint, hints=joined_hints(hints, hints_beside(path)))


def _read_folder(folder: Path) -> Checkpoint:
    zoo = _zoo_in(folder)
    if zoo is not None:
        last = zoo.row_count(folder) - 1
        raise Refused(
            "this is a zoo of networks", fix=f"name one row: {printable(folder)}#0 … #{last}", code="needs-row"
        )
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    kinds = {path: sniff(path) for path in files}
    indexes = [path for path, kind in kinds.items() if kind == "safetensors-sharded"]
    readable = indexes or [path for path, kind in kinds.items() if kind in _READERS and kind not in PACKINGS]
    if len(readable) != 1:
        found = f"{len(readable)} checkpoints" if readable else "no checkpoint"
        raise Refused(f"the folder holds {found}", fix="name one file", code="needs-file")
    return _read_file(readable[0])
