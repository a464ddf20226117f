"""checkpoint/sniff.py: what a file is, from its content and never from its name. Knows first bytes; reads no tensors.

One table, tried from top to bottom. A new container is one line here and one reader in `reading.py`.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

from nfn_cli.checkpoint.pickle_scan import globals_of
from nfn_cli.checkpoint.protobuf_scan import top_level_fields

_HEAD = 1024
# torch.serialization.MAGIC_NUMBER as every pickle protocol spells it: LONG1 of 10 bytes.
_TORCH_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_INDEX_LIMIT = 256 << 20
_SERIES = 1 << 20


def sniff(path: Path) -> str:
    """Kind of a file: a container of `Checkpoint.container`, or a word `refusals.py` knows.

    Raises:
        OSError: the file cannot be read.
        Refused: a zip archive is damaged.
    """
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    if not head:
        return "empty"
    return next((kind for kind, test in _TABLE if test(head, path)), "unknown")


def _starts(*magics: bytes) -> Callable[[bytes, Path], bool]:
    return lambda head, _: head.startswith(magics)


def _zip_with(test: Callable[[frozenset[str]], bool]) -> Callable[[bytes, Path], bool]:
    from nfn_cli.checkpoint.zip_guard import open_zip

    def matches(head: bytes, path: Path) -> bool:
        if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return False
        with open_zip(path) as archive:
            return test(frozenset(archive.namelist()))

    return matches


def _is_pt2(names: frozenset[str]) -> bool:
    programs = any("/models/" in name and name.endswith(".json") for name in names)
    return "serialized_exported_program.json" in names or (
        programs and any(name.endswith("/archive_format") for name in names)
    )


def _is_safetensors(head: bytes, path: Path) -> bool:
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    # The length of any believable header has zero bytes on top, which no text, pickle or archive has there.
    return head[8:9] == b"{" and bool(length < 1 << 40)


def _is_torch_legacy(head: bytes, _: Path) -> bool:
    return head[:1] == b"\x80" and _TORCH_MAGIC in head[:32]


def _is_old_pickle(head: bytes, path: Path) -> bool:
    # Protocols 0 and 1 have no magic; asking for a class is what makes them recognisable.
    if head[:1] not in b"(]}cli":
        return False
    with path.open("rb") as handle:
        return bool(next(globals_of(handle), ""))


def _is_index(head: bytes, path: Path) -> bool:
    if head.lstrip()[:1] != b"{" or path.stat().st_size > _INDEX_LIMIT:
        return False
    try:
        parsed = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("weight_map"), dict)


def _is_text(head: bytes, path: Path) -> bool:
    # A multi-byte character may be cut at the end of the head.
    for cut in range(4):
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return bool(text) and all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)
    return False


def _is_html(head: bytes, _: Path) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body"))


def _is_npy_series(head: bytes, path: Path) -> bool:
    # equinox.tree_serialise_leaves, alone or behind a line of JSON; or numpy.save again and again
    start = head.find(b"\x93NUMPY")
    if start < 0 or (start and not (head.startswith(b"{") and head[start - 1 : start] == b"\n")):
        return False
    return start > 0 or b"\x93NUMPY" in _beginning(path)[1:]


def _beginning(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(_SERIES)


def _is_paddle(head: bytes, _: Path) -> bool:
    # DenseTensor: versions and level of detail, all 0, then the length of a message whose first field is the type
    return head[:16] == bytes(16) and 2 < int.from_bytes(head[16:20], "little") < 64 and head[20:21] == b"\x08"


def _is_darknet(head: bytes, path: Path) -> bool:
    # int32 major, minor, revision; the count of images seen, of 8 bytes since version 0.2; numbers
    major, minor, revision = struct.unpack("<iii", head[:12].ljust(12, b"\xff"))
    seen = 8 if minor >= 2 else 4
    return major == 0 and minor in (1, 2) and 0 <= revision < 10 and (path.stat().st_size - 12 - seen) % 4 == 0


def _is_tf_index(head: bytes, path: Path) -> bool:
    # a table of LevelDB: its magic number ends the file
    with path.open("rb") as handle:
        handle.seek(-min(8, path.stat().st_size), 2)
        return handle.read() == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def _is_onnx(head: bytes, path: Path) -> bool:
    fields = top_level_fields(path) if head[:1] in (b"\x08", b"\x3a", b"\x42", b"\x12") else None
    # ModelProto: ir_version = 1 (varint), graph = 7, opset_import = 8 (messages).
    return fields is not None and any(n == 7 and wire == 2 for n, wire, _ in fields) and _has_version(fields)


def _has_version(fields: list[tuple[int, int, int]]) -> bool:
    # a field that is there twice means its last value, and only that is written again
    versions = [value for n, wire, value in fields if (n, wire) == (1, 0)]
    return 0 < next(reversed(versions), 0) < 1000


def _is_saved_model(head: bytes, path: Path) -> bool:
    # SavedModel: saved_model_schema_version = 1 (varint), meta_graphs = 2 (messages), and nothing else.
    fields = top_level_fields(path) if head[:2] == b"\x08\x01" else None
    return bool(fields) and fields is not None and {(n, wire) for n, wire, _ in fields} == {(1, 0), (2, 2)}


def _is_flax(head: bytes, _: Path) -> bool:
    # msgpack as flax.serialization writes it: a map whose first key is a name; an array is extension 1 that holds a triple
    named = re.match(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf][ -~]", head, re.DOTALL)
    return bool(named and re.search(rb"(?:\xc7.|\xc8..|\xc9....)\x01\x93", head, re.DOTALL))


def _is_protobuf(head: bytes, path: Path) -> bool:
    fields = top_level_fields(path) if head[0] & 7 in (0, 1, 2, 5) else None
    return bool(fields)


_TABLE: tuple[tuple[str, Callable[[bytes, Path], bool]], ...] = (
    # First: its length field may begin with the magic bytes of a pickle (640) or of gzip, never the other way round.
    ("safetensors", _is_safetensors),
    ("lfs-pointer", _starts(b"version https://git-lfs.github.com/", b"version https://hawser.github.com/")),
    ("sb3-zip", _zip_with(lambda names: {"policy.pth", "data"} <= names)),
    ("pt2", _zip_with(_is_pt2)),
    ("torchscript", _zip_with(lambda names: any(name.endswith("/constants.pkl") for name in names))),
    ("torch-zip", _zip_with(lambda names: any(name == "data.pkl" or name.endswith("/data.pkl") for name in names))),
    ("npz", _zip_with(lambda names: any(name.endswith(".npy") for name in names))),
    ("keras-zip", _zip_with(lambda names: "model.weights.h5" in names)),
    ("other-zip", _zip_with(lambda names: True)),
    ("npy-series", _is_npy_series),
    ("npy", _starts(b"\x93NUMPY")),
    ("hdf5", _starts(b"\x89HDF\r\n\x1a\n")),
    ("torch-legacy", _is_torch_legacy),
    ("pickle", _starts(*(bytes((0x80, protocol)) for protocol in range(2, 6)))),
    ("gguf", _starts(b"GGUF")),
    ("gzip", _starts(b"\x1f\x8b")),
    ("zlib", _starts(b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")),
    ("bzip2", _starts(b"BZh")),
    ("xz", _starts(b"\xfd7zXZ\0")),
    ("lzma", _starts(b"\x5d\0\0")),
    ("tar", lambda head, _: head[257:262] == b"ustar"),
    ("tflite", lambda head, _: head[4:8] == b"TFL3"),
    ("matlab", _starts(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file")),
    ("torch7", lambda head, _: head[:4] == b"\x04\0\0\0" and head[8:15] == b"\x03\0\0\0V 1"),
    ("mxnet", _starts(b"\x12\x01\0\0\0\0\0\0")),
    ("archive", _starts(b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")),
    ("paddle", _is_paddle),
    ("darknet", _is_darknet),
    ("tf-checkpoint", _is_tf_index),
    ("html", _is_html),
    ("safetensors-sharded", _is_index),
    ("old-pickle", _is_old_pickle),
    ("text", _is_text),
    ("flax", _is_flax),
    ("onnx", _is_onnx),
    ("saved-model", _is_saved_model),
    ("protobuf", _is_protobuf),
)
