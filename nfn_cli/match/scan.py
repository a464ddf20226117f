"""match/scan.py: which of many fingerprints mean one network, and a log of what a scan has done. Knows codes; no checkpoint.

Codes within the radius r must agree in at least one of r + 1 pieces of their bits (pigeonhole), so only codes with an equal
piece are compared: all pairs within the radius are found, and nearly no others are looked at. A group is a connected
component of these pairs.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import SurroundingsFailed
from nfn_cli.match.fingerprint_code import BITS, RADIUS, Fingerprint, looks_like_one
from nfn_cli.match.fingerprint_plan import Array
from nfn_cli.printable import printable
from nfn_cli.symmetry.axis import IntArray

_ROWS_AT_A_TIME = 2048


def groups(codes: Sequence[Fingerprint], radius: int = RADIUS) -> list[list[int]]:
    """Positions of those that are one network, two or more each; in the order of their first members.

    Members of a group may be further apart than the radius where others lie between them.
    """
    by_architecture: dict[str, list[int]] = {}
    for position, code in enumerate(codes):
        by_architecture.setdefault(code.architecture, []).append(position)
    found = []
    for positions in by_architecture.values():
        bits = np.frombuffer(b"".join(codes[p].bits for p in positions), np.uint8).reshape(len(positions), -1)
        root = _components(bits, radius)
        order = np.argsort(root, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(root[order])) + 1)
        found += [[positions[p] for p in part] for part in parts if len(part) > 1]
    return sorted(found)


def _components(codes: Array, radius: int) -> IntArray:
    """(n, 32) -> (n,) least position of each component."""
    unique, of = np.unique(codes, axis=0, return_inverse=True)
    bits = np.unpackbits(unique, axis=1).astype(np.float32)
    root = np.arange(len(unique), dtype=np.int64)
    edges = np.linspace(0, BITS, radius + 2).astype(int)
    for start, stop in itertools.pairwise(edges):
        piece = np.packbits(bits[:, start:stop].astype(np.uint8), axis=1)
        _, bucket = np.unique(piece, axis=0, return_inverse=True)
        bucket = bucket.reshape(-1)
        order = np.argsort(bucket, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1):
            if len(members) > 1 and len(np.unique(root[members])) > 1:
                root = _joined(bits, members, root, radius)
    first = np.full(len(unique), len(codes), np.int64)
    np.minimum.at(first, root[of.reshape(-1)], np.arange(len(codes)))
    return np.asarray(first[root[of.reshape(-1)]])


def _joined(bits: Array, members: IntArray, root: IntArray, radius: int) -> IntArray:
    """The components after the pairs among some codes."""
    ones = bits[members].sum(axis=1)
    for start in range(0, len(members), _ROWS_AT_A_TIME):
        some = members[start : start + _ROWS_AT_A_TIME]
        distance = bits[some].sum(axis=1)[:, None] + ones - 2 * bits[some] @ bits[members].T
        left, right = np.nonzero((distance <= radius) & (root[some][:, None] != root[members]))
        for a, b in zip(some[left], members[right], strict=True):
            low, high = sorted((int(root[a]), int(root[b])))
            if low != high:
                root = np.where(root == high, low, root)
    return root


class ScanLog:
    """What a scan has found out so far, one line a job, so that a stopped one can go on.

    A job counts as done if its key and its stamp are in the log; a line that was cut short does not count.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises:
        SurroundingsFailed: the log cannot be read or written (code "cannot-write").
        """
        self._done: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._handle = None
        if path is None:
            return
        try:
            self._handle = path.open("a+b")
            self._handle.seek(0)
            content = self._handle.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                self._handle.truncate(len(whole))
        except OSError as error:
            reason = error.strerror or "it cannot be opened"
            raise SurroundingsFailed(reason, where=printable(path), code="cannot-write") from None
        for key, stamp, lines in _records(whole):
            self._done[key, stamp] = lines

    def done(self, key: str, stamp: str) -> list[dict[str, Any]] | None:
        """The lines of a job that is done."""
        return self._done.get((key, stamp))

    def add(self, key: str, stamp: str, lines: Sequence[Mapping[str, Any]]) -> None:
        if self._handle is not None:
            text = json.dumps({"job": key, "stamp": stamp, "lines": list(lines)}, allow_nan=False)
            self._handle.write(text.encode() + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()


def _records(content: bytes) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Lines that are no records of a scan are passed over: their jobs are done again."""
    for line in content.splitlines():
        try:
            record = json.loads(line)
            key, stamp, lines = record["job"], record["stamp"], record["lines"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(key, str) and isinstance(stamp, str) and _are_lines(lines):
            yield key, stamp, lines


def _are_lines(lines: Any) -> bool:
    return isinstance(lines, list) and all(
        isinstance(line, dict)
        and isinstance(line.get("path"), str)
        and (isinstance(line.get("error"), dict) or _is_judged(line))
        for line in lines
    )


def _is_judged(line: dict[str, Any]) -> bool:
    """Lines of earlier versions that do not say how far a code is to be trusted are done again."""
    return looks_like_one(str(line.get("fingerprint"))) and isinstance(line.get("reliable"), bool)
