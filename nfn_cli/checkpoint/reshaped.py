"""checkpoint/reshaped.py: a checkpoint whose tensors have other shapes, for containers in which shapes belong to tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.safetensors_file import Header, entry_of
from nfn_cli.checkpoint.sharded import Shards
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_AROUND = ("the objects in the file state the old shapes", "save the state dict, and reduce that")
_FIXED = {
    **dict.fromkeys(("torch-objects-zip", "torch-objects-legacy", "torch-objects-pickle", "pickle"), _AROUND),
    **dict.fromkeys(
        ("keras-hdf5", "keras-zip"), ("the model states the old shapes", "save the weights as .npz, and reduce that")
    ),
    "onnx": ("the model's nodes were written for the old shapes", "export the network from its reduced weights"),
    "pt2": ("the program in the archive holds the old shapes", "export the network from its reduced weights"),
    "torchscript": ("the code in the archive may hold the old shapes", "save the state dict, and reduce that"),
    "sb3-zip": ("the zip states the layer widths of its policy", "reduce the policy.pth inside it"),
}


def check_reshapable(checkpoint: Checkpoint) -> None:
    """Raises Refused (code "shapes-are-fixed") where more than tensors knows the shapes."""
    if checkpoint.container in _FIXED:
        why, fix = _FIXED[checkpoint.container]
        raise Refused(
            f"{checkpoint.container}: {why}", where=printable(checkpoint.path), fix=fix, code="shapes-are-fixed"
        )


def reshaped(checkpoint: Checkpoint, changed: Mapping[str, Array]) -> Checkpoint:
    """The checkpoint with these tensors, of any shape, in place of its own.

    Raises:
        Refused: see `check_reshapable`.
    """
    check_reshapable(checkpoint)
    out = checkpoint.with_tensors(changed)
    origin = checkpoint.payload
    if not isinstance(origin, Origin):
        return out
    return replace(out, payload=replace(origin, content=_content(origin.content, out)))


def _content(content: Any, checkpoint: Checkpoint) -> Any:
    if isinstance(content, Header):
        return _header(content, checkpoint)
    if isinstance(content, Shards):
        headers = {name: _header(header, checkpoint) for name, header in content.headers.items()}
        index = dict(content.index)
        if isinstance(index.get("metadata"), dict) and "total_size" in index["metadata"]:
            size = sum(array.nbytes for array in checkpoint.tensors.values())
            index["metadata"] = index["metadata"] | {"total_size": size}
        return replace(content, headers=headers, index=index)
    return content


def _header(header: Header, checkpoint: Checkpoint) -> Header:
    origin = origin_of(checkpoint)
    names = {origin.stored(name): name for name in checkpoint.tensors}
    entries = {
        stored: replace(entry, shape=entry_of(checkpoint.tensors[names[stored]]).shape) if stored in names else entry
        for stored, entry in header.entries.items()
    }
    return replace(header, entries=entries)
