"""checkpoint/flax_file.py: msgpack files of Flax (flax/serialization.py): nested maps of arrays. Packed by msgpack.

An array is extension 1 and holds (shape, name of its type, bytes); everything else is kept as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back, numpy_dtype, safetensors_name
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.storage import StoredTensor, integers
from nfn_cli.checkpoint.tensor_tree import Keys, named_tensors
from nfn_cli.errors import Refused, not_installed
from nfn_cli.printable import printable

_ARRAY, _CHUNKED = 1, "__msgpack_chunked_array__"
_NAMES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
_DTYPES = {**{name: safetensors_name(np.dtype(name)) for name in _NAMES}, "bfloat16": "BF16"}


def read_flax(path: Path) -> Checkpoint:
    """Read a file.

    Raises:
        SurroundingsFailed: msgpack is not installed (code "missing-extra").
        Refused: damaged, or with arrays in several pieces.
    """
    tree = _unpacked(path.read_bytes())
    _refuse_pieces(tree)
    found = named_tensors(tree, np.ndarray)
    tensors = MappingProxyType(found.leaves)
    return Checkpoint(
        str(path),
        "flax-msgpack",
        tensors,
        hints=hints_in(found.words, "values beside the weights"),
        left_aside=found.left_aside,
        payload=Origin((path,), tensors, content=(tree, found.places)),
    )


def write_flax(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """The same maps with other arrays."""
    origin = origin_of(checkpoint)
    tree, places = origin.content
    changed = {
        places[name]: cast_back(np.asarray(array), origin.tensors[name].dtype)
        for name, array in checkpoint.tensors.items()
        if array is not origin.tensors[name]
    }
    with atomic_output(out, force) as handle:
        handle.write(_packed(tree, (), changed))
    return ()


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise not_installed("msgpack", "reading files of Flax", "flax") from None
    return msgpack


def _unpacked(data: bytes) -> Any:
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(data, ext_hook=_entry, raw=False, strict_map_key=False)
    except Refused:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        raise Refused("the msgpack file is damaged", fix="download or export it again", code="truncated") from None


def _refuse_pieces(tree: Any) -> None:
    """Flax cuts arrays of more than a gigabyte into pieces, which are no tensors of their own."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and _CHUNKED in node:
            raise Refused(
                "an array in several pieces", fix="save it with safetensors.flax.save_file", code="unsupported-tensor"
            )
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        stack.extend(part for part in inner if isinstance(part, (dict, list)))


def _entry(code: int, data: bytes) -> Any:
    msgpack = _msgpack()
    if code != _ARRAY:
        return msgpack.ExtType(code, data)
    shape, dtype, numbers = msgpack.unpackb(data, raw=False)
    sizes = integers(shape)
    if sizes is None or not isinstance(numbers, bytes):
        raise TypeError
    if dtype not in _DTYPES:
        raise Refused(f"element type {printable(str(dtype), 60)!r} is not supported", code="unknown-dtype")
    element = numpy_dtype(_DTYPES[dtype])
    if any(n < 0 for n in sizes) or int(np.prod(sizes, dtype=object)) * element.itemsize != len(numbers):
        raise ValueError
    array = StoredTensor.dense("", _DTYPES[dtype], sizes).view(numbers)
    array.flags.writeable = False
    return array


def _packed(node: Any, place: Keys, changed: Mapping[Keys, Array]) -> bytes:
    """As flax.serialization.msgpack_serialize packs it."""
    msgpack = _msgpack()

    def plain(node: Any, place: Keys) -> Any:
        if isinstance(node, np.ndarray):
            array = changed.get(place, node)
            content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
            return msgpack.ExtType(_ARRAY, content)
        if isinstance(node, dict):
            return {key: plain(value, (*place, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [plain(value, (*place, number)) for number, value in enumerate(node)]
        return node

    packed: bytes = msgpack.packb(plain(node, place), use_bin_type=True)
    return packed
