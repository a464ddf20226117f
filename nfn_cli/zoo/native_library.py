"""zoo/native_library.py: the C files of the package, compiled by whoever needs them. Knows a compiler and ctypes; no torch.

They come as source and are compiled, in a second or two, by each process that trains on the CPU, for the processor it is
on. Where there is no compiler the library is missing, and PyTorch does the work.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("native")
CNNS, SINES = ("convolution.c", "layer_end.c"), ("sine_fit.c",)  # what is compiled together
VECTOR = 8  # numbers that the C code takes at a time: channels must be multiples
_FLAGS = ("-O2", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
_LIBRARIES = ("-lm",)


@cache
def native_library(sources: tuple[str, ...]) -> ctypes.CDLL | None:
    """The compiled files, CNNS or SINES, or None where they cannot be had."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    paths = [_FOLDER / name for name in sources]
    if not compiler or not all(path.exists() for path in paths):
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="nfn-") as folder:
            target = Path(folder) / "zoo.so"
            command = [*shlex.split(compiler), *_FLAGS, "-o", str(target), *map(str, paths), *_LIBRARIES]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            return ctypes.CDLL(str(target))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
