"""fuzz_mutations.py: one change to a file that knows the file's form: headers, archives, JSON, tables. Knows bytes only."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from fuzz_bytes import DTYPES, NAMES, NUMBERS, changed_bytes, junk
from fuzz_pickles import changed_pickle
from fuzz_protobuf import changed_protobuf, fields_of

Mutation = Callable[[bytes, random.Random], bytes]


def changed(data: bytes, draw: random.Random) -> bytes:
    """The bytes after a change that fits what they are; now and then one that does not."""
    if not data or draw.random() < 0.15:
        return changed_bytes(data, draw)
    return _form(data)(data, draw)


def _form(data: bytes) -> Mutation:
    if data.startswith(b"PK\x03\x04"):
        return changed_zip
    if data.startswith(b"\x93NUMPY") and len(data) >= 10:
        return changed_npy
    if data[8:9] == b"{" and len(data) > 8 and struct.unpack("<Q", data[:8])[0] < len(data):
        return changed_safetensors
    if data.startswith(b"\x1f\x8b"):
        return changed_gzip
    if data[:1] == b"\x80":
        return changed_pickle
    if data.lstrip()[:1] in (b"{", b"["):
        return changed_json
    if data[:1] == b"\x08" and fields_of(data):
        return changed_protobuf
    text = data[:200]
    return changed_text if text.isascii() and b"\0" not in text else changed_bytes


def changed_gzip(data: bytes, draw: random.Random) -> bytes:
    """What is packed, changed by its own form."""
    try:
        return gzip.compress(changed(gzip.decompress(data), draw), 1, mtime=0)
    except (OSError, EOFError, zlib.error):
        return changed_bytes(data, draw)


def changed_text(data: bytes, draw: random.Random) -> bytes:
    """Lines and words moved, repeated, replaced: tables and programs."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines) + 1), lines[at])
        case 2:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            separator = b"," if b"," in lines[at] else b" "
            words = lines[at].split(separator)
            place = draw.randrange(len(words))
            new = str(junk(draw)).encode("utf-8", "surrogatepass") if draw.random() < 0.6 else draw.choice(words)
            words[place] = new
            lines[at] = separator.join(words)
    return b"\n".join(lines)


def changed_value(value: Any, draw: random.Random, depth: int = 0) -> Any:
    """A JSON value with one place changed; text that is itself JSON is opened."""
    if isinstance(value, str) and value[:1] in "{[" and len(value) > 2:
        try:
            return json.dumps(changed_value(json.loads(value), draw))
        except (ValueError, RecursionError):
            return junk(draw)
    if not isinstance(value, (dict, list)) or not value or (depth and draw.random() < 0.1):
        if type(value) is int and draw.random() < 0.5:
            return value + draw.choice([-1, 1, 2, -2, value])
        return draw.choice(DTYPES) if isinstance(value, str) and draw.random() < 0.4 else junk(draw)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw.choice(keys)
    match draw.randrange(12):
        case 0:
            del value[key]
        case 1:
            other = draw.choice(keys)
            value[key], value[other] = value[other], value[key]
        case 2 if isinstance(value, dict):
            new = draw.choice(NAMES)
            items = [(new if k == key else k, v) for k, v in value.items()]
            value.clear()
            value.update(items)
        case 3 if isinstance(value, list):
            value.append(copy.deepcopy(value[key]))
        case _:
            value[key] = changed_value(value[key], draw, depth + 1)
    return value


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def changed_json(data: bytes, draw: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(data, draw)
    if draw.random() < 0.03:
        return b"[" * 100_000
    return _dumped(changed_value(value, draw))


def changed_safetensors(data: bytes, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    text, body = data[8 : 8 + length], data[8 + length :]
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return changed_bytes(data, draw)
    names = [name for name in header if name != "__metadata__"]
    match draw.randrange(8):
        case 0 if names:  # a name twice
            text = text[:-1] + b"," + _dumped({draw.choice(names): header[draw.choice(names)]})[1:]
        case 1 if names:  # two shapes for as many bytes
            entry = header[draw.choice(names)]
            if isinstance(entry, dict) and isinstance(entry.get("shape"), list):
                entry["shape"] = draw.choice(
                    [entry["shape"][::-1], [*entry["shape"], 1], [0, *entry["shape"]], [1] * 40]
                )
            text = _dumped(header)
        case 2 if len(names) > 1:  # tensors under each other's names
            one, other = draw.sample(names, 2)
            header[one], header[other] = header[other], header[one]
            text = _dumped(header)
        case 3:
            return struct.pack("<Q", draw.choice([n for n in NUMBERS if 0 <= n < 2**64])) + text + body
        case 4:  # weights that are odd numbers
            floats = draw.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\1\0\0\0", b"\0\0\0\0"])
            at = 4 * draw.randrange(len(body) // 4 + 1)
            body = (body[:at] + floats * draw.choice([1, 4, 50]) + body[at:])[: len(body)]
        case _:
            for _ in range(draw.choice([1, 1, 2])):
                header = changed_value(header, draw)
            text = _dumped(header)
    return struct.pack("<Q", len(text)) + text + body


def changed_npy(data: bytes, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<H", data[8:10])
    header, body = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    match draw.randrange(5):
        case 0:
            header = header.replace("<f4", draw.choice(DTYPES))
        case 1:
            shape = draw.choice(
                ["()", "(1,)", "(-1,)", f"({draw.choice(NUMBERS)},)", "(0, 5)", "(2,)*3", "x", "(3, 5)", "(5, 3)"]
            )
            start, end = header.find("("), header.find(")")
            header = header[:start] + shape + header[end + 1 :]
        case 2:
            header = header.replace("False", draw.choice(["True", "1", "None"]))
        case 3:
            return data[:6] + bytes([draw.randrange(4), draw.randrange(2)]) + data[8:]
        case _:
            header = changed_text(header.encode("latin1"), draw).decode("latin1")
    return data[:8] + struct.pack("<H", len(header) % 65536) + header.encode("latin1", "replace") + body


def changed_zip(data: bytes, draw: random.Random) -> bytes:
    """Members changed by their own form, renamed, left out, twice, compressed, with lies in the directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(i.filename, archive.read(i)) for i in archive.infolist()]
    except Exception:
        return changed_bytes(data, draw)
    if not members:
        return changed_bytes(data, draw)
    at = draw.randrange(len(members))
    talking = [i for i, (n, d) in enumerate(members) if n.endswith(("pkl", "json", "py", "npy", "pth", "pt", "data"))]
    match draw.randrange(12):
        case 0:
            del members[at]
        case 1:
            members[at] = (draw.choice([n for n in NAMES if "\ud800" not in n]) or "x", members[at][1])
        case 2:
            members.append((members[at][0], draw.choice(members)[1]))
        case 3:
            members[at] = (members[at][0], draw.choice(members)[1])
        case 4:
            members[at] = (members[at][0], members[at][1][: draw.randrange(len(members[at][1]) + 1)])
        case 5:
            draw.shuffle(members)
        case _:
            at = draw.choice(talking) if talking and draw.random() < 0.8 else at
            members[at] = (members[at][0], changed(members[at][1], draw))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", draw.choice([0, 0, 0, zipfile.ZIP_DEFLATED])) as made:
        warnings.simplefilter("ignore")
        for name, content in members:
            made.writestr(zipfile.ZipInfo(name), content)
    whole = out.getvalue()
    return changed_bytes(whole, draw) if draw.random() < 0.05 else whole
