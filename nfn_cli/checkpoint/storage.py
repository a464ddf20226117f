"""checkpoint/storage.py: tensors that lie in members of a zip archive as torch lays them out: bytes, shape, strides.

Knows storages and arrays; no pickle, no JSON. What a file says about sizes is checked against the bytes that are there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import cast_back, is_countable, numpy_dtype
from nfn_cli.checkpoint.model import Array
from nfn_cli.checkpoint.zip_guard import damaged, data_offset, read_member
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_MOST_AXES = 32
_LARGEST = 1 << 48


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        member: name of the archive's member that holds its storage.
        dtype: as safetensors names it.
        shape, strides: in elements.
        offset: of the first element.
        requires_grad: what the file says of it.
    """

    member: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    requires_grad: bool = False

    @classmethod
    def dense(cls, member: str, dtype: str, shape: tuple[int, ...], fortran: bool = False) -> StoredTensor:
        """A tensor that has its storage to itself, the last axis (the first, if `fortran`) running fastest."""
        inner = shape[:-1] if fortran else shape[:0:-1]
        steps = tuple(accumulate(inner, mul, initial=1)) if shape else ()
        return cls(member, dtype, shape, steps if fortran else steps[::-1], 0)

    def view(self, storage: bytes | bytearray | memoryview | Array) -> Array:
        """The tensor in its storage, sharing memory.

        Raises:
            Refused: it does not fit (code "bad-header").
        """
        dtype = numpy_dtype(self.dtype)
        flat = np.frombuffer(storage, np.uint8)
        if not _fits(self, len(flat) // dtype.itemsize):
            raise Refused(
                f"a tensor of shape {self.shape} does not fit into its {len(flat)} bytes",
                where=printable(self.member),
                code="bad-header",
            )
        elements = flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)
        steps = [step * dtype.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, steps)


def _fits(tensor: StoredTensor, elements: int) -> bool:
    numbers = (*tensor.shape, *tensor.strides, tensor.offset)
    if any(type(n) is not int or not 0 <= n < _LARGEST for n in numbers):
        return False
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > _MOST_AXES:
        return False
    if not is_countable(tensor.shape, numpy_dtype(tensor.dtype).itemsize):
        return False
    if prod(tensor.shape) == 0:
        return tensor.offset <= elements
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    # an axis of stride 0 would let a few bytes stand for any number of entries
    return last < elements and prod(tensor.shape) <= elements


def read_tensors(path: Path, archive: zipfile.ZipFile, stored: Mapping[str, StoredTensor]) -> dict[str, Array]:
    """Read-only arrays by name; memory-mapped where the archive keeps them uncompressed.

    Raises:
        Refused: a member is missing or too small.
    """
    storages: dict[str, Any] = {}
    tensors = {}
    with path.open("rb") as handle:
        for name, tensor in stored.items():
            if tensor.member not in storages:
                info = _info(archive, tensor.member)
                if info.compress_type == zipfile.ZIP_STORED and info.file_size:
                    start = data_offset(handle, info)
                    if start + info.file_size > path.stat().st_size:
                        raise damaged("the archive is cut short", "truncated", info.filename)
                    storages[tensor.member] = np.memmap(path, np.uint8, "r", start, (info.file_size,))
                else:
                    storages[tensor.member] = read_member(archive, info)
            array = tensor.view(storages[tensor.member])
            array.flags.writeable = False
            tensors[name] = array
    return tensors


def read_tensors_in_memory(archive: zipfile.ZipFile, stored: Mapping[str, StoredTensor]) -> dict[str, Array]:
    """As `read_tensors`, of an archive that is itself in memory."""
    storages = {m: member_bytes(archive, m) for m in {tensor.member: None for tensor in stored.values()}}
    return {name: tensor.view(storages[tensor.member]) for name, tensor in stored.items()}


def aliases_of(stored: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Name -> the first name of the same tensor in the same place."""
    first: dict[Any, str] = {}
    aliases = {}
    for name, tensor in stored.items():
        key = (tensor.member, tensor.dtype, tensor.shape, tensor.strides, tensor.offset)
        if prod(tensor.shape) and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
    return aliases


def member_bytes(archive: zipfile.ZipFile, member: str) -> bytes:
    """What a member holds.

    Raises:
        Refused: there is no such member, or it is damaged.
    """
    return read_member(archive, _info(archive, member))


def changed_members(
    read: Callable[[str], bytes],
    stored: Mapping[str, StoredTensor],
    before: Mapping[str, Array],
    after: Mapping[str, Array],
) -> Iterator[tuple[str, bytes]]:
    """Every member in which a tensor changed, and its new bytes.

    Args:
        read: gives the bytes of a member.

    Raises:
        Refused: tensors that overlap would need different values in one place (code "shared-memory").
    """
    by_member: dict[str, list[str]] = {}
    for name, tensor in stored.items():
        by_member.setdefault(tensor.member, []).append(name)
    for member, names in by_member.items():
        if any(after[name] is not before[name] for name in names):
            storage = bytearray(read(member))
            _fill(storage, {name: stored[name] for name in names}, before, after)
            yield member, bytes(storage)


def _fill(
    storage: bytearray, stored: Mapping[str, StoredTensor], before: Mapping[str, Array], after: Mapping[str, Array]
) -> None:
    wanted: dict[str, Array] = {}
    for name, tensor in stored.items():
        try:
            wanted[name] = cast_back(np.asarray(after[name]), before[name].dtype)
        except Refused as error:
            raise error.located(printable(name)) from None
        if after[name] is not before[name]:
            tensor.view(storage)[...] = wanted[name]
    for name, values in wanted.items():
        if not np.array_equal(_bits(stored[name].view(storage)), _bits(values)):
            raise Refused(
                "the tensor shares memory with others in a way that cannot be kept",
                where=printable(name),
                code="shared-memory",
            )


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _info(archive: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(member)
    except KeyError:
        raise damaged("the archive lacks the values of a tensor", "truncated", member) from None


def integers(values: Any) -> tuple[int, ...] | None:
    """A sequence of plain integers as a tuple, else None."""
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)) or any(type(n) is not int for n in values):
        return None
    return tuple(values)


def check_byte_order(archive: zipfile.ZipFile) -> None:
    """Refuse numbers with their highest byte first.

    Raises:
        Refused: with code "byte-order".
    """
    for info in archive.infolist():
        if info.filename.rpartition("/")[2] == "byteorder" and read_member(archive, info) != b"little":
            raise Refused(
                "the numbers have their highest byte first", fix="save it on another machine", code="byte-order"
            )
