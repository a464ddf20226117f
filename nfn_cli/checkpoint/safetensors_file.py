"""checkpoint/safetensors_file.py: one safetensors file, read by memory map and written tensor by tensor. No torch.

Format: 8 bytes little-endian length N, N bytes of JSON {name: {dtype, shape, data_offsets}}, then the data without
holes (https://github.com/huggingface/safetensors, README "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.dtypes import cast_back, is_countable, numpy_dtype, safetensors_name
from nfn_cli.checkpoint.mapped_tensors import MappedFile, MappedTensors, RecentWindows, Span
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.wrapper_prefix import without_wrapper_prefix
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_METADATA = "__metadata__"
_MOST_TENSORS = 200_000
_PIECE = 1 << 20  # entries of a computed tensor that are written at a time
_BEHIND = 1 << 24  # bytes from which on writing is done beside computing


@dataclass(frozen=True)
class Entry:
    """One tensor of a header: dtype name as in the file, shape, and the span [start, stop) of its data in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Header:
    """What the header of a file says, in its order."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int = 0


def read_safetensors(path: Path) -> Checkpoint:
    """Read one file; arrays are read-only views of memory maps.

    Raises:
        Refused: header too long, not JSON, duplicate names, unknown dtype, spans that overlap, leave holes, do not
            fit their shape or end outside the file.
    """
    header, file = map_tensors(path)
    names = without_wrapper_prefix(header.entries)
    tensors = MappedTensors({name: (file, in_file) for name, in_file in names.items()})
    return Checkpoint(
        path=str(path),
        container="safetensors",
        tensors=tensors,
        metadata=header.metadata,
        payload=Origin((path,), tensors, MappingProxyType(names), header),
    )


def read_tensors(path: Path) -> tuple[Header, dict[str, Array]]:
    """Header and read-only arrays of one file, under the names of the file."""
    header, file = map_tensors(path)
    return header, {name: file[name] for name in header.entries}


def map_tensors(path: Path, recent: RecentWindows | None = None) -> tuple[Header, MappedFile]:
    """Header and tensors of one file; large ones are mapped when they are asked for.

    Args:
        recent: shared by files that are read together.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        header = read_header(handle, size)
    data = header.data_start
    spans = {
        name: Span(numpy_dtype(entry.dtype), entry.shape, data + entry.start, data + entry.stop)
        for name, entry in header.entries.items()
    }
    return header, MappedFile(path, spans, size, recent or RecentWindows())


def read_header(handle: BinaryIO, size: int) -> Header:
    """Parse and check the header of a file of `size` bytes."""
    prefix = handle.read(8)
    if len(prefix) < 8:
        raise _broken("the file is shorter than its header", "truncated")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER:
        raise _broken(f"the header claims {length} bytes, more than {MAX_HEADER}", "bad-header")
    text = handle.read(length)
    if len(text) < length:
        raise _broken("the file ends within its header", "truncated")
    # counted before it is parsed: a million tiny tensors make objects many times larger than their text
    if text.count(b"data_offsets") > _MOST_TENSORS:
        raise Refused(f"the header names more than {_MOST_TENSORS:,} tensors", code="too-large")
    parsed = _parse(text)
    metadata = parsed.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken("the metadata is not a map from text to text", "bad-header")
    if not all(_is_text(word) for pair in metadata.items() for word in pair) or not all(map(_is_text, parsed)):
        raise _broken("a name in the header is not valid Unicode", "bad-header")
    entries = {name: _entry(name, value) for name, value in parsed.items()}
    _check_spans(entries, size - 8 - length)
    return Header(MappingProxyType(entries), MappingProxyType(metadata), 8 + length)


def write_safetensors(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the checkpoint as one file; see `write_tensors`."""
    origin = origin_of(checkpoint)
    header = origin.content if isinstance(origin.content, Header) else None
    with atomic_output(out, force) as handle:
        write_tensors(handle, layout_for(checkpoint, header), checkpoint.metadata, checkpoint.tensors)
    return ()


def layout_for(checkpoint: Checkpoint, header: Header | None) -> dict[str, tuple[str, Entry]]:
    """Name in the checkpoint -> (name in the file, dtype and shape).

    The original header is the source while the tensor set is unchanged, so that arrays made on demand are made once.
    """
    origin = origin_of(checkpoint)
    names = list(checkpoint.tensors)
    if header is not None and {origin.stored(name) for name in names} == set(header.entries):
        bare = {origin.stored(name): name for name in names}
        return {bare[stored]: (stored, entry) for stored, entry in header.entries.items()}
    return {name: (origin.stored(name), entry_of(checkpoint.tensors[name])) for name in names}


def entry_of(array: Array) -> Entry:
    """Header entry for an array of ours."""
    return Entry(safetensors_name(array.dtype), tuple(array.shape))


def write_tensors(
    handle: BinaryIO,
    layout: Mapping[str, tuple[str, Entry]],
    metadata: Mapping[str, str],
    tensors: Mapping[str, Array],
) -> None:
    """Stream a file: the header from `layout`, then each tensor, asked for once and dropped before the next.

    A mapping that computes its tensors may offer `rows(name, start, stop)`; large ones are then asked for piece by piece.
    The data starts at a multiple of 8 bytes. Arrays come out in the dtype of the layout.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    position = 0
    for stored, entry in layout.values():
        stop = position + math.prod(entry.shape) * numpy_dtype(entry.dtype).itemsize
        header[stored] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    handle.write(struct.pack("<Q", len(text)))
    handle.write(text)
    pieces = _bytes_of(layout, tensors)
    if position > _BEHIND:
        from nfn_cli.checkpoint.write_behind import write_behind  # starting threads takes a while to import

        write_behind(handle, pieces)
    else:
        handle.writelines(pieces)


def _bytes_of(layout: Mapping[str, tuple[str, Entry]], tensors: Mapping[str, Array]) -> Iterator[memoryview]:
    for name, (_, entry) in layout.items():
        for array in _pieces(tensors, name, entry.shape):
            try:
                array = cast_back(array, numpy_dtype(entry.dtype))
            except Refused as error:
                raise error.located(printable(name)) from None
            if array.size:
                yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _pieces(tensors: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Iterator[Array]:
    rows = getattr(tensors, "rows", None)
    if rows is None or math.prod(shape) <= _PIECE:
        array = tensors[name]
        if tuple(array.shape) != shape:
            raise ValueError(f"shape of {name!r} changed from {shape} to {array.shape}")
        yield array
        return
    step = max(1, _PIECE * shape[0] // math.prod(shape))
    for start in range(0, shape[0], step):
        yield rows(name, start, min(start + step, shape[0]))


def _parse(text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _broken(f"the header names {printable(key)!r} twice", "bad-header")
            found[key] = value
        return found

    def number(spelled: str) -> Any:
        raise ValueError(spelled)

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=number)
    except (ValueError, RecursionError):
        raise _broken("the header is not valid JSON", "bad-header") from None
    if not isinstance(parsed, dict):
        raise _broken("the header is not a JSON object", "bad-header")
    return parsed


def _is_text(word: str) -> bool:
    # JSON can spell half of a surrogate pair, which no writer could put back.
    return not any("\ud800" <= character <= "\udfff" for character in word)


def _entry(name: str, value: Any) -> Entry:
    def naturals(numbers: Any) -> bool:
        return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)

    where = printable(name)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _broken("the header entry needs dtype, shape and data_offsets", "bad-header", where)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not naturals(shape) or not naturals(offsets) or len(offsets) != 2:
        raise _broken("the header entry is malformed", "bad-header", where)
    try:
        itemsize = numpy_dtype(dtype).itemsize
    except Refused as error:
        raise error.located(where) from None
    if offsets[1] - offsets[0] != math.prod(shape) * itemsize:
        raise _broken(f"{offsets[1] - offsets[0]} bytes do not hold shape {shape} of {dtype}", "bad-header", where)
    if len(shape) > 32:
        raise _broken(f"{len(shape)} axes are too many", "bad-header", where)
    if not is_countable(shape, itemsize):
        raise _broken(f"the shape {shape} is too large", "bad-header", where)
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _check_spans(entries: Mapping[str, Entry], available: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            kind = "overlaps another" if entry.start < position else "leaves a hole before it"
            raise _broken(f"the data of this tensor {kind}", "bad-header", printable(name))
        position = entry.stop
    if position > available:
        raise _broken(f"the file is cut short: {position} bytes of data expected, {available} there", "truncated")
    if position < available:
        raise _broken(f"{available - position} bytes after the last tensor", "bad-header")


def _broken(what: str, code: str, where: str = "") -> Refused:
    return Refused(what, where=where, fix="download or export the safetensors file again", code=code)
