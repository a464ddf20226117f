"""How little memory `nfn canonicalize` needs for a chain whose file is larger than that.

    python benchmarks/size.py --megabytes 4096 --limit 1024

The limit is on addresses (RLIMIT_AS, what `ulimit -v` sets): it counts every map of a file, every library and every stack, and so
is harder to meet than a limit on memory in use. Exit code 1 if the command fails under it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from figures import figure

INPUTS, OUTPUTS, ROWS = 64, 16, 512
_RUN = """
import atexit, sys
def peak():
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")), file=sys.stderr)
atexit.register(peak)
from nfn_cli.cli.main import main
main()
"""


@dataclass(frozen=True)
class Measured:
    """One run: sizes in MiB (None where the process could not say), seconds."""

    file: float
    limit: int
    code: int
    peak_addresses: float | None
    seconds: float
    copy_seconds: float
    message: str


def write_chain(path: Path, width: int, layers: int) -> None:
    """A float32 relu MLP of `layers` hidden layers, written in pieces."""
    sizes = [INPUTS, *[width] * layers, OUTPUTS]
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (before, after) in enumerate(pairwise(sizes)):
        shapes |= {f"{number}.weight": (after, before), f"{number}.bias": (after,)}
    header: dict[str, object] = {"__metadata__": {"activation": "relu"}}
    position = 0
    for name, shape in shapes.items():
        stop = position + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header).encode()
    generator = np.random.default_rng(0)
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            size = np.float32((2 / shape[1]) ** 0.5 if len(shape) == 2 else 0.1)
            for start in range(0, shape[0], ROWS):
                rows = (min(ROWS, shape[0] - start), *shape[1:])
                handle.write((generator.standard_normal(rows, dtype=np.float32) * size).tobytes())


def canonicalize(source: Path, output: Path, limit: int) -> Measured:
    """Run the command under a limit of `limit` MiB of addresses."""
    start = time.perf_counter()
    shutil.copyfile(source, output)
    copied = time.perf_counter() - start
    output.unlink()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))

    # one thread, one arena: stacks and arenas of more are addresses that nothing uses
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", _RUN, "canonicalize", str(source), "-o", str(output), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, preexec_fn=limited, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    lines = done.stderr.split("\n")
    peak = next((int(line) / 1024 for line in reversed(lines) if line.isdigit()), None)
    said = " ".join(line for line in lines if line and not line.isdigit())
    return Measured(source.stat().st_size / 2**20, limit, done.returncode, peak, seconds, copied, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=4096, help="size of the file")
    parser.add_argument("--limit", type=int, default=1024, help="MiB of addresses")
    parser.add_argument("--width", type=int, default=4096, help="units of a hidden layer")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files are made; twice their size is needed"
    )
    given = parser.parse_args()
    layers = max(1, round(given.megabytes * 2**20 / (4 * given.width**2))) + 1
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source = Path(folder) / "chain.safetensors"
        write_chain(source, given.width, layers)
        found = canonicalize(source, Path(folder) / "out.safetensors", given.limit)
    print(json.dumps(asdict(found) | {"times_a_copy": found.seconds / found.copy_seconds}))
    if found.code == 0 and found.peak_addresses is not None:
        figure("addresses", found.peak_addresses / found.file)
        figure("time", found.seconds / found.copy_seconds)
    sys.exit(0 if found.code == 0 else 1)


if __name__ == "__main__":
    main()
