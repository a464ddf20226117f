"""fuzz_coverage.py: changed files as in fuzz.py, of which those that reach new lines are changed further: atheris.

One process for each kind of input. libFuzzer keeps the corpus, which begins with the whole seeds, and chooses what is changed
next by the branches of the package that it reached; the changes are those of fuzz_mutations, which know the forms of files.
Every run begins with a control: a defect behind six bytes, each a branch of its own, which no blind change finds.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fuzz_cases import Outcome, changed_files, run
from fuzz_seeds import Seed, emptied, laid_out, seeds

_CONTROL = "control"
_CONTROL_SECONDS = 60
_LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-max_len=200000", "-len_control=0")


@dataclass(frozen=True)
class Reached:
    """What guidance did for one kind of input: edges of the package reached by the seeds alone, and at the end."""

    runs: int
    edges_of_seeds: int
    edges: int
    defects: dict[str, int]
    stopped: str

    def __str__(self) -> str:
        end = f"; stopped: {self.stopped}" if self.stopped else ""
        return f"{self.runs} runs, edges {self.edges_of_seeds} -> {self.edges}, defects {self.defects or 'none'}{end}"


def guided(seconds: float, keep: Path, strangers: Path | None, only: list[str]) -> bool:
    """Give each kind of input its share of the time; whether there was no defect. The corpus stays in `keep`, to go on from."""
    if find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install atheris)", file=sys.stderr)
        return True
    control = _in_a_process(_CONTROL, _CONTROL_SECONDS, keep, strangers)
    if not control.defects:
        print(f"guidance does not work, the control was not found: {control}", file=sys.stderr)
        return False
    kinds = only or sorted({seed.container for seed in seeds(strangers, _models())})
    total = []
    for kind in kinds:
        reached = _in_a_process(kind, max(1, int(seconds / len(kinds))), keep, strangers)
        print(f"{kind}: {reached}", flush=True)
        total.append(reached)
    print(f"{sum(each.runs for each in total)} runs, {sum(sum(each.defects.values()) for each in total)} defects")
    return not any(each.defects or each.stopped for each in total)


def _in_a_process(kind: str, seconds: int, keep: Path, strangers: Path | None) -> Reached:
    place = keep / "coverage" / kind
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    found = place / "defects.json"
    found.unlink(missing_ok=True)
    limits = [f"-max_total_time={seconds}", *_LIMITS, f"-artifact_prefix={place}/", str(corpus)]
    ended = subprocess.run(
        [sys.executable, __file__, kind, str(place), str(strangers or ""), *limits],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    text = ended.stderr.decode("utf-8", "replace")
    (place / "log.txt").write_text(text)
    edges = [int(number) for number in re.findall(r"cov: (\d+)", text)] or [0]
    runs = [int(number) for number in re.findall(r"^#(\d+)", text, re.MULTILINE)] or [0]
    begun = re.search(r"INITED cov: (\d+)", text)
    stopped = f"exit {ended.returncode}, see {place}" if ended.returncode else ""
    defects = json.loads(found.read_text()) if found.exists() else {}
    return Reached(max(runs), int(begun.group(1)) if begun else 0, max(edges), defects, stopped)


def _models() -> Path:
    return Path(__file__).resolve().parents[1] / "models"


def packed(files: dict[str, bytes], names: list[str]) -> bytes:
    """Files of a seed as one string of bytes; names by their number, so that each keeps its own."""
    pieces = (struct.pack("<HI", names.index(name), len(content)) + content for name, content in sorted(files.items()))
    return b"".join(pieces)


def unpacked(data: bytes, names: list[str]) -> dict[str, bytes]:
    """What `packed` made; whatever else it is given, some files."""
    files, at = {}, 0
    while at + 6 <= len(data):
        number, length = struct.unpack_from("<HI", data, at)
        files[names[number % len(names)]] = data[at + 6 : at + 6 + length]
        at += 6 + length
    return files


class _Target:
    """One kind of input: bytes to files, to the readers; defects are counted and kept, and do not end the run."""

    def __init__(self, known: list[Seed], place: Path, folder: Path) -> None:
        self.known, self.place, self.folder = known, place, folder
        self.names = sorted({name for seed in known for name in seed.files})
        self.counts: Counter[str] = Counter()

    def seed_of(self, files: dict[str, bytes]) -> Seed:
        """Seeds of one kind are told apart by the names of their files."""
        return max(self.known, key=lambda seed: len(seed.files.keys() & files.keys()))

    def changed(self, data: bytes, max_size: int, number: int) -> bytes:
        """A custom mutator of libFuzzer."""
        draw = random.Random(number)
        files = unpacked(data, self.names) or dict(draw.choice(self.known).files)
        new = packed(changed_files(files, self.seed_of(files).entry, draw), self.names)
        return new if len(new) <= max_size else data

    def __call__(self, data: bytes) -> None:
        files = unpacked(data, self.names)
        inside, out = self.folder / "in", self.folder / "out"
        for each in (inside, out):
            each.mkdir(exist_ok=True)
            emptied(each)
        laid_out(files, inside)
        outcome = run(len(data), 0, self.seed_of(files), inside, out)
        if outcome.defect:
            self._keep(outcome, data)

    def _keep(self, outcome: Outcome, data: bytes) -> None:
        name = f"{outcome.word}: {outcome.defect}"
        self.counts[name] += 1
        if self.counts[name] == 1:
            (self.place / f"defect-{len(self.counts)}").write_bytes(data)
            (self.place / f"defect-{len(self.counts)}.txt").write_text(f"{name}\n{outcome.details}\n")
        (self.place / "defects.json").write_text(json.dumps(self.counts))


def _control(place: Path) -> Callable[[bytes], None]:
    """A defect that only a guided run finds in its time."""

    def one(data: bytes) -> None:
        from fuzz_control import word

        if word(data):
            (place / "defects.json").write_text('{"control": 1}')
            raise SystemExit("the control was found")

    return one


def main() -> None:
    import atheris

    kind, place, strangers = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    with atheris.instrument_imports(include=["nfn_cli", "pyfive", "fuzz_control"]):
        importlib.import_module("fuzz_control")
        package = importlib.import_module("nfn_cli")
        for module in pkgutil.walk_packages(package.__path__, "nfn_cli."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    arguments = [sys.argv[0], *sys.argv[4:]]
    if kind == _CONTROL:
        atheris.Setup(arguments, _control(place))
        atheris.Fuzz()
    known = [seed for seed in seeds(Path(strangers) if strangers else None, _models()) if seed.container == kind]
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        target = _Target(known, place, Path(folder))
        for number, seed in enumerate(known):
            (Path(arguments[-1]) / f"seed-{number}").write_bytes(packed(seed.files, target.names))
        atheris.Setup(arguments, target, custom_mutator=target.changed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
