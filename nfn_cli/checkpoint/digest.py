"""checkpoint/digest.py: one SHA-256 for the tensors of a checkpoint, whatever holds them. Knows arrays and names; no file format.

Definition (nfn.digest/1). Every tensor gives one line

    NAME DTYPE SHAPE DATA

NAME: the tensor's name as a JSON string with everything but printable ASCII escaped; DTYPE: its element type as safetensors names
it (F32, BF16, I64, BOOL …; C128 for complex128); SHAPE: [3,4], [] for a scalar; DATA: SHA-256, in hexadecimal, of its
entries in C order, little-endian. The digest is the SHA-256 of all lines, sorted as bytes, each ended by a newline.
Without names, lines begin with DTYPE and are sorted again: renamed tensors are then the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import safetensors_name
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.wrapper_prefix import AVERAGING_COUNTER
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

SCHEMA = "nfn.digest/1"
_PIECE = 1 << 20  # entries that are copied at a time, where a copy is needed


@dataclass(frozen=True, slots=True)
class Digest:
    """Identity of a checkpoint's tensors.

    Attributes:
        path, container: as in `Checkpoint`.
        hexdigest: SHA-256 of `lines`.
        modulo_symmetry: whether the lines describe the rounded canonical form in place of the tensors.
        names: whether they begin with names.
        lines: one for each tensor that counts, sorted.
        entries: how many numbers these tensors hold.
        left_aside: what the file holds beside them.
        notes: what the user should know.
    """

    path: str
    container: str
    hexdigest: str
    modulo_symmetry: bool
    names: bool
    lines: tuple[str, ...]
    entries: int
    left_aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of the schema, without the lines."""
        return {
            "schema": SCHEMA,
            "path": self.path,
            "container": self.container,
            "algorithm": "sha256",
            "digest": self.hexdigest,
            "modulo_symmetry": self.modulo_symmetry,
            "names": self.names,
            "tensors": len(self.lines),
            "entries": self.entries,
            "left_aside": list(self.left_aside),
            "notes": list(self.notes),
        }


def digest(checkpoint: Checkpoint, *, names: bool = True) -> Digest:
    """The digest of a checkpoint's tensors (definition at the head of this file).

    What counts is `Checkpoint.tensors`: every tensor that may be a weight, buffers and counters of layers included. What
    does not: metadata, order, container, shards, nesting levels that hold everything, the prefixes `module.` and
    `_orig_mod.`, the counter n_averaged, optimizer state and whatever else is `left_aside`. A tied tensor counts under each
    of its names. Bits decide: -0.0 is not 0.0, and the same values in float16 and bfloat16 are different tensors.

    Each tensor is read once, in pieces; none needs to stand in memory.

    Raises:
        Refused: an element type that no other container could hold (longdouble, code "unknown-dtype").
    """
    counted = [name for name in checkpoint.tensors if name != AVERAGING_COUNTER]
    lines, entries = [], 0
    for name in counted:
        array = checkpoint.tensors[name]
        try:
            text = f"{_dtype_name(array.dtype)} {shape_text(array.shape)} {_data_digest(array)}"
        except Refused as error:
            raise error.located(printable(name)) from None
        lines.append(named(name, text) if names else text)
        entries += array.size
    ordered = tuple(sorted(lines))
    return Digest(
        checkpoint.path,
        checkpoint.container,
        digest_of(ordered),
        False,
        names,
        ordered,
        entries,
        checkpoint.left_aside,
    )


def digest_of(lines: Iterable[str]) -> str:
    """SHA-256 of lines, each ended by a newline; lines are ASCII."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("ascii") + b"\n")
    return total.hexdigest()


def named(name: str, text: str) -> str:
    """A line that begins with the name of its tensor; no name can look like two fields or two lines."""
    quoted = json.dumps(name, ensure_ascii=True).replace(
        "\x7f", "\\u007f"
    )  # the one control character JSON leaves alone
    return f"{quoted} {text}"


def shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(int(n)) for n in shape) + "]"


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "C128" if dtype.name == "complex128" else safetensors_name(dtype)


def _data_digest(array: Array) -> str:
    data = hashlib.sha256()
    little = array.dtype.newbyteorder("<")
    for piece in _pieces(array):
        entries = np.ascontiguousarray(piece, little).reshape(-1)
        if entries.size:
            data.update(entries.view(np.uint8).data)
    return data.hexdigest()


def _pieces(array: Array) -> Iterator[Array]:
    """The entries in C order, in parts that need no large copy."""
    if array.size <= _PIECE:
        yield array
    elif array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            yield flat[start : start + _PIECE]
    else:
        rows = _PIECE // max(1, array[:1].size)
        for start in range(0, len(array), max(1, rows)):
            yield from [array[start : start + rows]] if rows else _pieces(array[start])
