"""checkpoint/legacy_torch.py: files of torch.save before 1.6 (torch/serialization.py, `_legacy_save`). Runs nothing.

Layout: the pickles of a magic number, a version, the system, the object and the keys of its storages; then each storage
as its number of elements (int64) and its elements.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from nfn_cli.checkpoint.dtypes import numpy_dtype
from nfn_cli.checkpoint.tree_pickle import Machine
from nfn_cli.checkpoint.zip_guard import damaged
from nfn_cli.errors import Refused


def read_legacy(stream: BinaryIO, size: int, machine: Machine) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The object, and where each of its storages lies: member -> (start, length) in bytes.

    Args:
        size: of the stream in bytes.

    Raises:
        Refused: damaged, cut short, or with the highest byte of numbers first.
    """
    _, _, system = (machine.run(stream) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("the numbers have their highest byte first", fix="save it on another machine", code="byte-order")
    tree = machine.run(stream)
    keys = machine.run(stream)
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else ():
        header = stream.read(8)
        member = f"{machine.directory}{key}"
        if len(header) < 8 or member not in machine.storages:
            raise damaged("the file is cut short or damaged", "truncated")
        length = struct.unpack("<q", header)[0] * numpy_dtype(machine.storages[member]).itemsize
        start = stream.tell()
        if not 0 <= length <= size - start:
            raise damaged("the file is cut short", "truncated")
        places[member] = (start, length)
        stream.seek(start + length)
    if set(machine.storages) - set(places):
        raise damaged("the file lacks the values of a tensor", "truncated")
    return tree, places
