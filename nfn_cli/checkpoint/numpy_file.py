"""checkpoint/numpy_file.py: .npy and .npz, read by memory map where stored plainly, written with fixed dates. No torch."""

from __future__ import annotations

import sys
import tokenize
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back, is_countable
from nfn_cli.checkpoint.hint_words import hints_in
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.wrapper_prefix import without_wrapper_prefix
from nfn_cli.checkpoint.zip_guard import data_offset, open_zip, read_member
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

NPY_NAME = "array"
# what numpy raises for header text that is no dictionary literal
_NOT_A_HEADER = (
    *(ValueError, TypeError, SyntaxError, KeyError, EOFError, OverflowError, MemoryError, RecursionError),
    tokenize.TokenError,
)
_NUMBERS = "biufc"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold: the same bytes at every time


@dataclass(frozen=True)
class Member:
    """One member of an .npz: name in the zip, compression, and the bytes of what is not a tensor."""

    filename: str
    compression: int
    tensor: str = ""
    kept: bytes = b""


def read_npy(path: Path) -> Checkpoint:
    """One array, memory-mapped, under the name "array".

    Raises:
        Refused: damaged, of Python objects, or of a type that is no number.
    """
    with path.open("rb") as handle:
        shape, fortran, dtype = _npy_header(handle)
        offset = handle.tell()
    _refuse_no_numbers(dtype)
    size = path.stat().st_size - offset
    tensors = MappingProxyType({NPY_NAME: _mapped(path, offset, size, shape, fortran, dtype)})
    return Checkpoint(str(path), "npy", tensors, payload=Origin((path,), tensors))


def read_npz(path: Path) -> Checkpoint:
    """Members in the order of the archive; text members may be hints, everything without numbers is left aside."""
    stored: dict[str, Array] = {}
    members: list[Member] = []
    words: dict[str, Any] = {}
    left_aside: list[str] = []
    with open_zip(path) as archive, path.open("rb") as handle:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            array = _member_array(path, handle, archive, info) if info.filename.endswith(".npy") else "not an array"
            if isinstance(array, str):
                left_aside.append(f"{printable(name)}: {array}")
            elif array.dtype.kind in _NUMBERS:
                stored[name] = array
                members.append(Member(info.filename, info.compress_type, name))
                continue
            else:
                if array.dtype.kind in "US" and array.size == 1:
                    words[name] = _word(array)
                left_aside.append(f"{printable(name)}: {array.dtype.name} array, not numbers")
            members.append(Member(info.filename, info.compress_type, kept=read_member(archive, info)))
    names = without_wrapper_prefix(stored)
    tensors = MappingProxyType({name: stored[in_file] for name, in_file in names.items()})
    return Checkpoint(
        path=str(path),
        container="npz",
        tensors=tensors,
        hints=hints_in(words, "metadata"),
        left_aside=tuple(left_aside),
        payload=Origin((path,), tensors, MappingProxyType(names), tuple(members)),
    )


def _word(array: Array) -> str:
    """The one text of an array; "" where its numbers are no characters, which NumPy would make a broken string of."""
    if array.dtype.kind == "S":
        return bytes(array.reshape(-1)[0]).decode("utf-8", "replace")
    codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return str(array.reshape(-1)[0]) if not len(codes) or int(codes.max()) <= sys.maxunicode else ""


def write_npy(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the one array."""
    if len(checkpoint.tensors) != 1:
        raise ValueError("an npy file holds one array")
    with atomic_output(out, force) as handle:
        (name,) = checkpoint.tensors
        _write_array(handle.write, _as_read(checkpoint, name))
    return ()


def write_npz(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the members in their order, one array in memory at a time; the same arrays give the same bytes."""
    origin = origin_of(checkpoint)
    by_stored = {origin.stored(name): name for name in checkpoint.tensors}
    members: tuple[Member, ...] = origin.content if isinstance(origin.content, tuple) else ()
    known = {member.tensor for member in members}
    members += tuple(Member(f"{s}.npy", zipfile.ZIP_STORED, s) for s in by_stored if s not in known)
    with atomic_output(out, force) as handle, zipfile.ZipFile(handle, "w", allowZip64=True) as archive:
        for member in members:
            if member.tensor and member.tensor not in by_stored:
                continue
            info = zipfile.ZipInfo(member.filename, date_time=_EPOCH)
            info.compress_type = member.compression
            info.external_attr = 0o600 << 16
            with archive.open(info, "w", force_zip64=True) as stream:
                if member.tensor:
                    _write_array(stream.write, _as_read(checkpoint, by_stored[member.tensor]))
                else:
                    stream.write(member.kept)
    return ()


def _as_read(checkpoint: Checkpoint, name: str) -> Array:
    array = checkpoint.tensors[name]
    before = origin_of(checkpoint).tensors.get(name)
    try:
        return array if before is None else cast_back(array, before.dtype)
    except Refused as error:
        raise error.located(printable(name)) from None


def _write_array(write: Callable[[bytes | memoryview], Any], array: Array) -> None:
    """The npy format, without the copy of the whole array that `np.lib.format` makes for a stream."""
    if array.dtype.kind not in _NUMBERS:
        raise Refused(f"numpy files cannot hold {array.dtype.name} values", code="unknown-dtype")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    if not (array.flags.c_contiguous or fortran):
        array = np.ascontiguousarray(array)
    header = BytesIO()
    description = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": fortran,
        "shape": tuple(int(n) for n in array.shape),
    }
    np.lib.format.write_array_header_1_0(header, description)
    write(header.getvalue())
    flat = array.reshape(-1, order="F" if fortran else "C").view(np.uint8)
    piece = 16 << 20
    for start in range(0, flat.size, piece):
        write(flat[start : start + piece].data)


def _member_array(path: Path, handle: BinaryIO, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array | str:
    """The array of one member, or what it is instead."""
    try:
        if info.compress_type == zipfile.ZIP_STORED:
            start = data_offset(handle, info)
            handle.seek(start)
            shape, fortran, dtype = _npy_header(handle)
            if dtype.hasobject:
                return "array of Python objects, needs pickle, not read"
            size = start + info.file_size - handle.tell()
            return _mapped(path, handle.tell(), size, shape, fortran, dtype)
        content = BytesIO(read_member(archive, info))
        shape, fortran, dtype = _npy_header(content)
        if dtype.hasobject:
            return "array of Python objects, needs pickle, not read"
        start = content.tell()
        _check_size(len(content.getbuffer()) - start, shape, dtype)
        array: Array = np.ndarray(shape, dtype, content.getvalue(), start, order="F" if fortran else "C")
        return array
    except Refused as error:
        raise error.located(printable(info.filename)) from None


def _npy_header(handle: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    damaged = Refused("the npy header is damaged", fix="export the file again", code="bad-header")
    try:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(handle)
        else:
            raise damaged
    except (
        tokenize.TokenError,
        ValueError,
        EOFError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        OverflowError,
        KeyError,
    ):
        raise damaged from None
    if any(n < 0 for n in shape) or len(shape) > 32:
        raise damaged
    return shape, fortran, dtype


def _mapped(path: Path, offset: int, size: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> Array:
    _check_size(size, shape, dtype)
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    array: Array = np.ndarray(shape, dtype, raw, offset, order="F" if fortran else "C")
    return array


def _check_size(size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    expected = dtype.itemsize
    for n in shape:
        expected *= n
    if not is_countable(shape, dtype.itemsize):
        raise Refused(f"the shape {shape} is too large", fix="export the file again", code="bad-header")
    if size != expected:
        word, code = ("cut short", "truncated") if size < expected else ("too long", "bad-header")
        raise Refused(
            f"the array is {word}: shape {shape} of {dtype.name} needs {expected} bytes, {size} are there",
            fix="export the file again",
            code=code,
        )


def _refuse_no_numbers(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise Refused(
            "an array of Python objects, which only unsafe pickle can read",
            fix="save the arrays themselves with numpy.savez",
            code="unsafe-pickle",
        )
    if dtype.kind not in _NUMBERS:
        raise Refused(f"an array of {dtype.name}, not of numbers", code="not-numbers")
