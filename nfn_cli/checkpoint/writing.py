"""checkpoint/writing.py: a Checkpoint back into the container it came from, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nfn_cli.checkpoint.atomic_write import check_output
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.numpy_file import write_npy, write_npz
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.checkpoint.safetensors_file import write_safetensors
from nfn_cli.checkpoint.sharded import index_path_for, write_sharded
from nfn_cli.checkpoint.zoo_row import write_zoo_row
from nfn_cli.errors import WrongUsage
from nfn_cli.printable import printable

Writer = Callable[[Checkpoint, Path, bool], tuple[str, ...]]


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        path: the file (for shards: the index).
        notes: what the user should know about it.
    """

    path: Path
    notes: tuple[str, ...]


def _torch(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.torch_file import write_torch

    return write_torch(checkpoint, out, force)


def _onnx(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.onnx_file import write_onnx

    return write_onnx(checkpoint, out, force)


def _archive(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.graph_archive import write_archive

    return write_archive(checkpoint, out, force)


def _objects(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.object_file import write_objects

    return write_objects(checkpoint, out, force)


def _keras(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.keras_file import write_keras

    return write_keras(checkpoint, out, force)


def _flax(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.flax_file import write_flax

    return write_flax(checkpoint, out, force)


def _sb3(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    from nfn_cli.checkpoint.sb3_zip import write_sb3

    return write_sb3(checkpoint, out, force)


_WRITERS: dict[str, Writer] = {
    "safetensors": write_safetensors,
    "safetensors-sharded": write_sharded,
    "npz": write_npz,
    "npy": write_npy,
    "torch-zip": _torch,
    "torch-legacy": _torch,
    "torch-objects-zip": _objects,
    "torch-objects-legacy": _objects,
    "torch-objects-pickle": _objects,
    "pickle": _objects,
    "keras-hdf5": _keras,
    "keras-zip": _keras,
    "flax-msgpack": _flax,
    "onnx": _onnx,
    "pt2": _archive,
    "torchscript": _archive,
    "sb3-zip": _sb3,
    "zoo-row": write_zoo_row,
}


def save(checkpoint: Checkpoint, out: str | Path, *, force: bool = False) -> Saved:
    """Write the checkpoint in its own container, tensor by tensor where the container allows it.

    Args:
        out: the new file; for shards a folder or the name of an index.
        force: whether an existing output is replaced. The input itself never is.

    Raises:
        WrongUsage: the output exists ("output-exists") or is the input ("output-is-input").
        SurroundingsFailed: disk full, no permission; no partial file is left.
    """
    target = Path(out)
    check_outputs(checkpoint, target, force=force)
    notes = _WRITERS[checkpoint.container](checkpoint, target, force)
    return Saved(index_path_for(checkpoint, target) if checkpoint.container == "safetensors-sharded" else target, notes)


def check_outputs(checkpoint: Checkpoint, target: Path, *, force: bool = False) -> None:
    """The errors `save` would raise before writing, for commands that compute long before they write."""
    for source in origin_of(checkpoint).files:
        try:
            same = os.path.samefile(source, target)
        except OSError:
            same = False
        if same:
            raise WrongUsage(
                "the output is the input", where=printable(target), fix="name another file", code="output-is-input"
            )
    if checkpoint.container != "safetensors-sharded":
        check_output(target, force)
