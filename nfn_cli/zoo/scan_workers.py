"""zoo/scan_workers.py: who does the jobs of a scan: this process, several, or a cluster through Ray. Results come in order."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from typing import Any

from nfn_cli.errors import SurroundingsFailed
from nfn_cli.graph import NameOptions
from nfn_cli.printable import printable
from nfn_cli.zoo.scan_jobs import Job, Record, done

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
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from _in_order(
                jobs, known, lambda job: pool.submit(done, job, how), lambda task: task.result(), count
            )
        except BrokenProcessPool:
            raise SurroundingsFailed(
                "a process of the scan was killed", fix="not enough memory? try fewer --jobs", code="worker-died"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def with_ray(jobs: Iterable[Job], how: NameOptions, known: Known, address: str) -> Results:
    """On a cluster whose machines see the same paths and have this package.

    Raises:
        SurroundingsFailed: Ray is missing (code "missing-extra"), or the cluster does not answer (code "ray-failed").
    """
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise SurroundingsFailed("ray is missing", fix="pip install 'nfn-cli[ray]'", code="missing-extra") from None
    try:
        ray.init(address=None if address == "local" else address, log_to_driver=False)
        remote = ray.remote(done)
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield from _in_order(jobs, known, lambda job: remote.remote(job, how), ray.get, count)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        reason = printable(str(error).split("\n")[0], 100)
        raise SurroundingsFailed(f"the cluster failed ({reason})", where=address, code="ray-failed") from None
    finally:
        ray.shutdown()


def _in_order(
    jobs: Iterable[Job],
    known: Known,
    submit: Callable[[Job], Any],
    result: Callable[[Any], list[Record]],
    workers: int,
) -> Results:
    waiting: deque[tuple[Job, list[Record] | None, Any]] = deque()

    def first() -> tuple[Job, list[Record], bool]:
        job, before, task = waiting.popleft()
        return (job, result(task), False) if before is None else (job, before, True)

    for job in jobs:
        before = known(job)
        waiting.append((job, before, submit(job) if before is None else None))
        if len(waiting) >= workers * _WAITING:
            yield first()
    while waiting:
        yield first()
