"""fuzz_coverage.py: atheris, guided by coverage, on the parsers that read bytes. Each parser in a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

PARSERS = ("safetensors", "pickle-scan", "tree-pickle", "zip", "protobuf", "npy", "script", "graph")


def guided(seconds: float, keep: Path) -> None:
    """Give each parser its share of the time; inputs that crash one are kept."""
    if find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install atheris)", file=sys.stderr)
        return
    failed = []
    for parser in PARSERS:
        place = keep / "coverage" / parser
        place.mkdir(parents=True, exist_ok=True)
        limits = [
            f"-max_total_time={max(1, int(seconds / len(PARSERS)))}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=65536",
        ]
        run = subprocess.run(
            [sys.executable, __file__, parser, *limits, f"-artifact_prefix={place}/"],
            stderr=subprocess.PIPE,
            check=False,
        )
        last = [line for line in run.stderr.decode("utf-8", "replace").splitlines() if line.startswith(("Done", "#"))]
        print(f"{parser}: exit {run.returncode}; {last[-1] if last else ''}")
        if run.returncode:
            failed.append(parser)
            (place / "stderr.txt").write_bytes(run.stderr)
    sys.exit(1 if failed else 0)


def _target(parser: str, place: Path) -> Callable[[bytes], None]:
    """The parser as a function of bytes; its own refusals are answers, everything else is a defect."""
    from nfn_cli.checkpoint import numpy_file, pickle_scan, protobuf_scan, safetensors_file, tree_pickle, zip_guard
    from nfn_cli.errors import NfnError
    from nfn_cli.graph.stored_graph import graph_from_text
    from nfn_cli.graph.torchscript.code import Code

    def file(data: bytes) -> Path:
        place.write_bytes(data)
        return place

    def members(data: bytes) -> None:
        with zip_guard.checked_zip(io.BytesIO(data), len(data)) as archive:
            for info in archive.infolist():
                zip_guard.read_member(archive, info)

    parsers: dict[str, Callable[[bytes], object]] = {
        "safetensors": lambda data: safetensors_file.read_header(io.BytesIO(data), len(data)),
        "pickle-scan": lambda data: list(pickle_scan.globals_of(io.BytesIO(data), 5)),
        "tree-pickle": lambda data: tree_pickle.read_tree(data, "d/"),
        "zip": members,
        "protobuf": lambda data: protobuf_scan.top_level_fields(file(data)),
        "npy": lambda data: numpy_file.read_npy(file(b"\x93NUMPY\x01\x00" + data)),
        "script": lambda data: Code({"f": data.decode("utf-8", "replace")}).find("f.m"),
        "graph": lambda data: graph_from_text(data.decode("utf-8", "replace"), {}),
    }

    def one(data: bytes) -> None:
        try:
            parsers[parser](data)
        except NfnError as error:
            if not str(error).isprintable():
                raise RuntimeError(f"unprintable: {error!r}") from error

    return one


def main() -> None:
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["nfn_cli"]):
        place = Path(tempfile.mkdtemp(prefix="nfn-fuzz-")) / "input"
        target = _target(sys.argv[1], place)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    os.environ.setdefault("PYTHONHASHSEED", "0")
    atheris.Fuzz()


if __name__ == "__main__":
    main()
