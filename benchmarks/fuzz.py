"""Changed files of every kind through every reader: python benchmarks/fuzz.py [--cases 100000] [--seed 0] [--data FOLDER]

Every case is a whole small input, changed in a way that knows its form, then loaded, analysed, canonicalized and
written in a process of its own with limits: 10 s of processor, and four times the input plus 300 MB. A defect is
an exception outside the package's family, a hang, too much memory, a message with control characters, an answer that
the numerical check refutes, or a file left behind. Each is kept in --keep with the files that show it; --replay N runs
one case again. The same seed and number give the same case, so --start goes on where a run ended.

--through-cli gives the cases to the installed command instead, in real processes, of which a second does one or two: then a
defect is also a traceback, an exit code of its own, an answer that its schema does not allow, a line by somebody else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fork in a process that has threads may wait for them forever
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_cases import MEMORY, Outcome, files_of, run
from fuzz_seeds import Seed, emptied, laid_out, seeds

ROOT = Path(__file__).resolve().parents[1]
STRANGERS = Path(os.environ.get("NFN_SHARED_DATA") or ROOT.parent / "shared" / "data") / "checkpoints"
_SECONDS = 10
_PER_PROCESS = 2000  # cases, then a fresh copy of the parent
_KEPT = 3  # examples of one defect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=STRANGERS, help="checkpoints of strangers, used where small")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=int, help="one case, with its traceback")
    parser.add_argument("--coverage-guided", type=float, metavar="SECONDS", help="atheris, over all containers")
    parser.add_argument("--only", action="append", default=[], metavar="CONTAINER", help="with --coverage-guided")
    parser.add_argument(
        "--through-cli", action="store_true", help="the installed command, a real process for each case"
    )
    options = parser.parse_args()
    if options.coverage_guided:
        from fuzz_coverage import guided

        strangers = options.data if options.data.is_dir() else None
        sys.exit(0 if guided(options.coverage_guided, options.keep, strangers, options.only) else 1)
    known = seeds(options.data if options.data.is_dir() else None, ROOT / "models")
    if options.through_cli:
        _through_cli(known, options)
        return
    if options.replay is not None:
        seed, files = files_of(options.replay, options.seed, known)
        with tempfile.TemporaryDirectory() as place:
            outcome = _one(options.replay, options.seed, seed, files, Path(place))
            print(seed.container, seed.entry, outcome.word, outcome.defect, outcome.details, sep="\n")
        return
    _warm(known)
    began = time.monotonic()
    counts, defects = _all(known, options)
    print(json.dumps(_summary(counts, defects, seconds=round(time.monotonic() - began, 1)), indent=1))
    sys.exit(1 if defects else 0)


def _through_cli(known: list[Seed], options: argparse.Namespace) -> None:
    from fuzz_commands import through_the_command

    counts: Counter[tuple[str, str]] = Counter()
    defects: Counter[str] = Counter()
    chosen = range(options.start, options.start + options.cases) if options.replay is None else [options.replay]
    for number in chosen:
        called, outcome = through_the_command(number, options.seed, known)
        counts[called.split()[-1], outcome.word] += 1
        if outcome.defect:
            defects[outcome.defect] += 1
            print(f"{number}: {called}: {outcome.defect}\n{outcome.details}", file=sys.stderr, flush=True)
            if defects[outcome.defect] <= _KEPT:
                _keep(options.keep, number, options.seed, known, outcome)
    print(json.dumps(_summary(counts, defects), indent=1))
    sys.exit(1 if defects else 0)


def _warm(known: list[Seed]) -> None:
    """Every seed unchanged: what is imported now is not counted later, and the control that seeds are whole."""
    with tempfile.TemporaryDirectory() as place:
        for number, seed in enumerate(known):
            outcome = _one(number, 0, seed, seed.files, Path(place))
            if seed.container not in ("stranger", "npy") and outcome.word != "analysed":
                raise SystemExit(f"the seed {seed.container} is not taken: {outcome}")


def _all(known: list[Seed], options: argparse.Namespace) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    counts: Counter[tuple[str, str]] = Counter()
    defects: Counter[str] = Counter()
    at, end = options.start, options.start + options.cases
    while at < end:
        stop = min(end, at + _PER_PROCESS)
        for number, container, outcome in _worker(known, options.seed, at, stop):
            at = number + 1
            counts[container, outcome.word] += 1
            if outcome.defect:
                name = f"{container}: {outcome.word}: {outcome.defect}"
                defects[name] += 1
                if defects[name] <= _KEPT:
                    _keep(options.keep, number, options.seed, known, outcome)
        print(f"{at} cases, {sum(defects.values())} defects of {len(defects)} kinds", file=sys.stderr, flush=True)
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"until-{options.start}.json").write_text(
            json.dumps(_summary(counts, defects, next=at), indent=1)
        )
    return counts, defects


def _summary(counts: Counter[tuple[str, str]], defects: Counter[str], **more: float) -> dict[str, object]:
    return {"cases": sum(counts.values()), **more, "containers": _by_container(counts), "defects": dict(defects)}


def _worker(known: list[Seed], run_seed: int, start: int, stop: int):  # type: ignore[no-untyped-def]
    """(number, container, outcome) of cases in a forked process; one that dies ends the list with the reason."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(known, run_seed, start, stop, writing)
    os.close(writing)
    current = start
    with os.fdopen(reading) as lines:
        for line in lines:
            number, container, *outcome = json.loads(line)
            current = number + 1
            yield number, container, Outcome(*outcome)
    _, status = os.waitpid(child, 0)
    if current < stop:
        container = files_of(current, run_seed, known)[0].container
        ending = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
        word = "hang" if ending in ("SIGPROF", "SIGALRM") else "crash"
        yield current, container, Outcome(word, ending)


def _child(known: list[Seed], run_seed: int, start: int, stop: int, writing: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    size = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + (8 << 30), size + (8 << 30)))
    with os.fdopen(writing, "w") as lines, tempfile.TemporaryDirectory(dir=_fast_folder()) as place:
        for number in range(start, stop):
            seed, files = files_of(number, run_seed, known)
            outcome = _one(number, run_seed, seed, files, Path(place))
            lines.write(json.dumps([number, seed.container, outcome.word, outcome.defect, outcome.details]) + "\n")
            lines.flush()
    os._exit(0)


def _one(number: int, run_seed: int, seed: Seed, files: dict[str, bytes], place: Path) -> Outcome:
    """Under its limits: the default answer to both timers ends the process, whatever it is doing."""
    folder, out = place / "in", place / "out"
    for each in (folder, out):
        each.mkdir(exist_ok=True)
        emptied(each)
    laid_out(files, folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = _status("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 12 * _SECONDS)
    outcome = run(number, run_seed, seed, folder, out)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    grown, allowed = _status("VmHWM") - before, MEMORY + 4 * sum(map(len, files.values()))
    if grown > allowed:
        return Outcome("memory", f"more than allowed after {outcome.word}", f"{grown >> 20} MB, {outcome.details}")
    return outcome


def _status(field: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _keep(folder: Path, number: int, run_seed: int, known: list[Seed], outcome: Outcome) -> None:
    seed, files = files_of(number, run_seed, known)
    place = folder / f"{seed.container}-{number}"
    laid_out(files, place)
    (place / "OUTCOME.txt").write_text(
        f"seed {run_seed}, case {number}, entry {seed.entry!r}\n{outcome.defect}\n{outcome.details}\n"
    )


def _by_container(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (container, word), count in sorted(counts.items()):
        kind = word.split()[0]
        found.setdefault(container, Counter())[kind] += count
    return {container: dict(words) for container, words in found.items()}


if __name__ == "__main__":
    main()
