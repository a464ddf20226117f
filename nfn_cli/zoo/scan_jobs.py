"""zoo/scan_jobs.py: what a scan of a collection consists of, and how one piece of it is done. Knows zoos, files, fingerprints.

A job is a file, or some rows of a zoo that are fingerprinted together. Jobs and their results are plain values, so that any
process, here or elsewhere, can do them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint import load, zoo_row, zoo_shard
from nfn_cli.checkpoint.hub import PREFIX
from nfn_cli.checkpoint.sharded import shard_names
from nfn_cli.checkpoint.sniff import sniff
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.match.fingerprint import Fingerprinter, Judged, judged_fingerprint
from nfn_cli.printable import printable
from nfn_cli.zoo.hub_listing import is_repository, listed
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import open_zoo

_ROWS = 1024
_CONTAINERS = frozenset(
    {"safetensors", "safetensors-sharded", "sb3-zip", "pt2", "torchscript", "torch-zip", "torch-legacy", "npz", "npy"}
    | {"onnx", "lfs-pointer"}
)


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        path: a file, or the folder of a zoo.
        stamp: changes when the content does; "" where that cannot be known without reading it.
        rows: (family, first, last + 1) positions within a family of the zoo; None for a file.
    """

    path: str
    stamp: str
    rows: tuple[int, int, int] | None = None

    @property
    def key(self) -> str:
        return self.path if self.rows is None else f"{self.path}#{'/'.join(map(str, self.rows))}"


Record = dict[str, Any]
"""What is known of one network: path, fingerprint, whether that is reliable; or path, error (code, message, hint), exit code."""


def _failed(path: str, error: NfnError) -> Record:
    message = f"{error.where}: {error.what}" if error.where else error.what
    said = {"code": error.code, "message": message, "hint": error.fix or None}
    return {"path": path, "error": said, "exit": int(error.exit_code)}


def jobs_of(source: str) -> Iterator[Job]:
    """The jobs of a folder, a zoo, a file, or a repository on the hub, as they are found, in sorted order.

    Files whose content is of no kind that holds weights are passed over.

    Raises:
        SurroundingsFailed: nothing is there, or the hub does not answer.
    """
    if source.startswith(PREFIX):
        files = listed(source) if is_repository(source) else iter([(source, "")])
        yield from (Job(path, stamp) for path, stamp in files)
        return
    if not source:
        raise WrongUsage("an input has an empty name", code="no-input")
    path = Path(source)
    if not path.exists():
        raise SurroundingsFailed("no such file or folder", where=printable(source), code="no-such-file")
    if path.is_file():
        yield Job(source, _stamp(path))
        return
    yield from _of_folder(path)


def _of_folder(folder: Path) -> Iterator[Job]:
    try:
        is_zoo = zoo_shard.is_zoo(folder) or zoo_row.is_zoo(folder)
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        files = [entry for entry in entries if entry.is_file()]
        folders = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        yield Job(str(folder), "")  # it will say why, in its place
        return
    if is_zoo:
        yield from _of_zoo(folder)
        return
    kinds = {entry: kind for entry in files if (kind := _kind(entry)) in _CONTAINERS}
    parts: set[Path] = set()
    for entry, kind in kinds.items():
        if kind == "safetensors-sharded":
            try:
                parts |= {folder / name for name in shard_names(entry)}
            except NfnError:
                continue  # the job itself will say so
    yield from (Job(str(entry), _stamp(entry)) for entry in kinds if entry not in parts)
    for entry in folders:
        yield from _of_folder(entry)


def _kind(path: Path) -> str:
    """A file that cannot be looked at is a job: that will say why."""
    try:
        return sniff(path)
    except (OSError, NfnError):
        return "npz"


def _of_zoo(folder: Path) -> Iterator[Job]:
    stamp = _zoo_stamp(folder)
    for number, family in enumerate(_zoo(str(folder), stamp).families):
        for start in range(0, len(family), _ROWS):
            yield Job(str(folder), stamp, (number, start, min(start + _ROWS, len(family))))


def _zoo_stamp(folder: Path) -> str:
    shards = sorted((folder / zoo_shard.SHARDS).glob("*")) if zoo_shard.is_zoo(folder) else [folder / "weights.npy"]
    text = ",".join(f"{path.name} {_stamp(path)}" for path in shards)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


@lru_cache(maxsize=4)
def _zoo(folder: str, stamp: str) -> Zoo:
    """A zoo that changed has another stamp, and is opened anew."""
    return open_zoo(folder, final_only=False)


@lru_cache(maxsize=4)
def _fingerprinter(folder: str, stamp: str, number: int) -> Fingerprinter:
    return Fingerprinter.of_graph(_zoo(folder, stamp).families[number].graph)


def done(job: Job, how: NameOptions) -> list[Record]:
    """Do a job; what fails stands as its error in its place."""
    try:
        return [_found(job.path, _of_file(job.path, how))] if job.rows is None else _of_rows(job)
    except NfnError as error:
        return [_failed(job.key, error)]
    except MemoryError:
        return [_failed(job.key, SurroundingsFailed("not enough memory", where=job.key, code="memory"))]


def done_in(folder: str, job: Job, how: NameOptions) -> list[Record]:
    """`done`, where the paths of the job and of `how` are relative to `folder`: for processes that were started elsewhere."""
    try:
        os.chdir(folder)
    except OSError as error:
        reason = error.strerror or "cannot be entered"
        return [_failed(job.key, SurroundingsFailed(reason, where=printable(folder), code="no-such-file"))]
    return done(job, how)


def died(job: Job) -> Record:
    """Of a job that took the process that did it down."""
    reason = SurroundingsFailed("the process that read it was killed", where=printable(job.key), code="worker-died")
    return _failed(job.key, reason)


def _found(path: str, judged: Judged) -> Record:
    return {"path": path, "fingerprint": str(judged.code), "reliable": judged.reliable}


def _of_file(path: str, how: NameOptions) -> Judged:
    try:
        checkpoint = load(path)
        return judged_fingerprint(checkpoint, find_networks(checkpoint, how))
    except NfnError as error:
        where = printable(path)
        raise (error if error.where.startswith(where) else error.located(where)) from None


def _of_rows(job: Job) -> list[Record]:
    assert job.rows is not None
    number, start, stop = job.rows
    zoo = _zoo(job.path, job.stamp)
    family, places = zoo.families[number], slice(start, stop)
    maker = _fingerprinter(job.path, job.stamp, number)
    found = maker.judged(family.tensors(rows=places))
    names = [f"{job.path}#{int(row)}" for row in zoo.sources[family.rows[places]]]
    bad = Refused("weights are not finite, or too large for their squares", code="non-finite-weights")
    return [
        _failed(name, bad.located(name)) if judged is None else _found(name, judged)
        for name, judged in zip(names, found, strict=True)
    ]
