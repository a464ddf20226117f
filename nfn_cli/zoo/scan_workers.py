"""zoo/scan_workers.py: who does the jobs of a scan: this process, several, or a cluster through Ray. Results come in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from typing import Any

from nfn_cli.errors import SurroundingsFailed, not_installed
from nfn_cli.graph import NameOptions
from nfn_cli.printable import printable
from nfn_cli.zoo.scan_jobs import Job, Record, died, done, done_in
from nfn_cli.zoo.worker_processes import deaf_to_interrupts, end_in_order

Results = Iterator[tuple[Job, list[Record], bool]]
Known = Callable[[Job], list[Record] | None]  # what an earlier scan found out
# Jobs that wait per worker: enough to keep all busy, few enough that an endless collection does not pile up.
_WAITING = 4


def alone(jobs: Iterable[Job], how: NameOptions, known: Known) -> Results:
    """One job after another in this process: the job, its records, and whether they were known before."""
    for job in jobs:
        before = known(job)
        yield (job, done(job, how), False) if before is None else (job, before, True)


def with_processes(jobs: Iterable[Job], how: NameOptions, known: Known, count: int) -> Results:
    """Raises:
    SurroundingsFailed: a process was killed (code "worker-died").
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread in each of them
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=end_in_order) as pool:

        def submit(job: Job) -> Future[list[Record]]:
            with deaf_to_interrupts():  # processes are started when there is work for them
                return pool.submit(done, job, how)

        try:
            yield from _in_order(jobs, known, submit, lambda _, task: list(task.result()), count)
        except BrokenProcessPool:
            raise SurroundingsFailed(
                "a process of the scan was killed", fix="not enough memory? try fewer --jobs", code="worker-died"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def with_ray(jobs: Iterable[Job], how: NameOptions, known: Known, address: str) -> Results:
    """On a cluster whose machines see the same paths and have this package; "local" starts one here for the time of the scan.

    Raises:
        SurroundingsFailed: Ray is missing (code "missing-extra"), or the cluster does not answer (code "ray-failed").
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a network call that nobody asked for
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise not_installed("Ray", "a scan over a cluster", "ray") from None
    for name in ("ray", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _check_that_somebody_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        remote = ray.remote(done_in)
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        here = os.getcwd()

        def result(job: Job, task: Any) -> list[Record]:
            try:
                return list(ray.get(task))
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                return [died(job)]

        yield from _in_order(jobs, known, lambda job: remote.remote(here, job, how), result, count)
    except (ray.exceptions.RayError, ConnectionError, ImportError, RuntimeError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        # of an exception in a task Ray tells the place first and the reason last
        reason = lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0]
        raise SurroundingsFailed(
            f"the cluster failed ({printable(reason, 100)})",
            where=printable(address),
            fix="same Ray and nfn on all its machines? a cluster with a token is joined with RAY_AUTH_MODE=token",
            code="ray-failed",
        ) from None
    finally:
        ray.shutdown()


def _check_that_somebody_listens(address: str) -> None:
    """Ray itself tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            raise SurroundingsFailed(
                f"no cluster there ({reason})", where=printable(address), code="ray-failed"
            ) from None


def _in_order(
    jobs: Iterable[Job],
    known: Known,
    submit: Callable[[Job], Any],
    result: Callable[[Job, Any], list[Record]],
    workers: int,
) -> Results:
    waiting: deque[tuple[Job, list[Record] | None, Any]] = deque()

    def first() -> tuple[Job, list[Record], bool]:
        job, before, task = waiting.popleft()
        return (job, result(job, task), False) if before is None else (job, before, True)

    for job in jobs:
        before = known(job)
        waiting.append((job, before, submit(job) if before is None else None))
        if len(waiting) >= workers * _WAITING:
            yield first()
    while waiting:
        yield first()
