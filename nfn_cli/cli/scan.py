"""cli/scan.py: `nfn scan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o
from nfn_cli.cli.fingerprint import UNRELIABLE, Radius

if TYPE_CHECKING:
    from nfn_cli.cli.session import Session
    from nfn_cli.graph import NameOptions
    from nfn_cli.match.scan import ScanLog
    from nfn_cli.zoo.scan_jobs import Job

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR",
        help="Folders of checkpoints and zoos, files, hf://owner/repo[@rev][/folder/], or - for a list on stdin.",
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=1024, help="Processes that work at the same time.")]
Resume = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--resume", metavar="FILE", help="Log of what is done: made where missing; what it holds is not done again."
    ),
]
Ray = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--ray", metavar="ADDRESS", help="Work on a Ray cluster (auto, local, HOST:PORT); needs the extra ray."
    ),
]


def scan(
    sources: Sources,
    jobs: Jobs = 1,
    resume: Resume = None,
    ray: Ray = None,
    radius: Radius = 24,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
) -> None:
    """Find the networks that occur more than once in a collection, whatever group element or dtype hides it.

    Every checkpoint below the folders and every row of a zoo among them gets its fingerprint (nfn fingerprint says what that
    is); networks whose fingerprints differ in at most --radius bits are one group, also through others between them. Files
    that hold no weights are passed over; what cannot be read as a network is an error in its place.

    With --json: one line for each network as soon as it is known (kind "network"), then one for each group of two or more
    (kind "group"), then the sums (kind "summary"). "reliable" is false where nfn fingerprint says so of a code: a copy in float16
    may then stand in no group.

    With --resume a stopped scan goes on where it was; the answer is that of one that never stopped. A file whose size or time
    changed is done again, and so is whatever failed for reasons outside it.
    On a cluster all machines must see the same paths and have this package; --ray local starts one here for the time of the scan.

    Examples:

      nfn scan runs --jobs 8 --resume runs.log

      nfn scan zoo --json > networks.jsonl

      nfn scan shared/models --ray auto --activation relu
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.errors import WrongUsage
    from nfn_cli.match.fingerprint_code import Fingerprint, fingerprint_from
    from nfn_cli.match.scan import ScanLog, groups

    if ray is not None and jobs != 1:
        raise WrongUsage("--ray takes as many workers as the cluster has; --jobs is for this machine: choose one")
    session = Session("scan", json)
    how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    log = ScanLog(resume)
    paths: list[str] = []
    codes: list[Fingerprint] = []
    failed: list[str] = []
    faint = 0
    for record in _records(list(expanded(sources)), session, log, how, jobs, ray):
        if "error" in record:
            failed.append(record["path"])
            _fail(session, record)
            continue
        code = fingerprint_from(record["fingerprint"])
        paths.append(record["path"])
        codes.append(code)
        faint += not record["reliable"]
        if json:
            said = {"fingerprint": str(code), "architecture": code.architecture, "reliable": record["reliable"]}
            _write("network", path=record["path"], **said)
    log.close()
    found = groups(codes, radius)
    for number, members in enumerate(found):
        distances = [codes[members[0]].distance(codes[member]) for member in members]
        names = [paths[member] for member in members]
        if json:
            _write("group", group=number, paths=names, distances=distances)
        else:
            _render_group(number, names, distances)
    if faint:
        session.note(f"of {faint:,} network{'s' * (faint > 1)} {UNRELIABLE}")
    distinct = len(codes) - sum(map(len, found)) + len(found)
    if json:
        counts = {"networks": len(codes), "distinct": distinct, "groups": len(found), "failed": len(failed)}
        _write("summary", **counts, unreliable=faint)
    else:
        lost = f"; {len(failed):,} could not be read" if failed else ""
        render.line(f"{len(codes):,} networks, {distinct:,} of them distinct, {len(found):,} groups of copies{lost}")
    session.end()


def _write(kind: str, **what: object) -> None:
    from nfn_cli.cli.jsonl import write_object

    write_object({"schema": "nfn.scan/1", "kind": kind, **what})


def _records(
    sources: list[str], session: Session, log: ScanLog, how: NameOptions, jobs: int, ray: str | None
) -> Iterator[dict[str, Any]]:
    """What is known of each network, in the order of the collection; logged before it is passed on."""
    from nfn_cli.cli.work_progress import tallied
    from nfn_cli.errors import ExitCode, NfnError
    from nfn_cli.zoo.scan_jobs import jobs_of
    from nfn_cli.zoo.scan_workers import alone, with_processes, with_ray

    def collected() -> Iterator[Job]:
        for source in sources:
            try:
                yield from jobs_of(source)
            except NfnError as error:
                session.fail(source, error)

    def known(job: Job) -> list[dict[str, Any]] | None:
        return log.done(f"{how} {job.key}", job.stamp)

    if ray is not None:
        results = with_ray(collected(), how, known, ray)
    elif jobs > 1:
        results = with_processes(collected(), how, known, jobs)
    else:
        results = alone(collected(), how, known)
    for job, records, before in tallied(results, "scan"):
        outside = any(record.get("exit") == int(ExitCode.SURROUNDINGS_FAILED) for record in records)
        if not before and not outside:
            log.add(f"{how} {job.key}", job.stamp, records)
        yield from records


def _fail(session: Session, record: dict[str, Any]) -> None:
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import one_line
    from nfn_cli.cli.streams import say

    session.code = max(session.code, int(record.get("exit", 3)))
    error = record["error"]
    if session.as_json:
        write_object({"schema": "nfn.scan/1", "path": record["path"], "error": error})
    hint = f"; {error['hint']}" if error["hint"] else ""
    say(f"error: {one_line(error['message'] + hint)}")


def _render_group(number: int, paths: list[str], distances: list[int | None]) -> None:
    from nfn_cli.cli import render

    most = max(distance or 0 for distance in distances)
    render.as_they_are([f"group {number}: {len(paths)} copies, {most} bits apart at most from the first"])
    render.as_they_are([f"  {path}" for path in paths])
