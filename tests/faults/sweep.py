"""Runs one command again and again in forks of a process that has imported everything, each disturbed one call later.

    python sweep.py FAULT FOLDER OLD ARGUMENT…     (OLD: 1 if another file is there before; "{}" in arguments is the run's folder)

Prints a JSON list of [call, return code, standard error], up to the first run that was not disturbed. Under LD_PRELOAD of faults.c.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

OLD = b"what was there before"


def run(arguments: list[str]) -> int:
    from nfn_cli.cli.main import main

    sys.argv = ["nfn", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def disturbed(fault: str, at: int, place: Path, arguments: list[str]) -> tuple[int, str]:
    place.mkdir()
    said = place.with_suffix(".stderr")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, os.devnull), (2, str(said))):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        if old:
            (place / "out.safetensors").write_bytes(OLD)
        os.environ |= {"FAULT": fault, "FAULT_AT": str(at)}
        code = run([argument.replace("{}", str(place)) for argument in arguments])
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text()


if __name__ == "__main__":
    fault, folder, old, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1", sys.argv[4:]
    before, out = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(out, 1)
    complete = folder / "complete"
    complete.mkdir()
    assert run([argument.replace("{}", str(complete)) for argument in arguments]) == 0
    sys.stdout.flush()
    os.dup2(before, 1)
    found: list[tuple[int, int, str]] = []
    while not found or found[-1][1] != 0:
        at = len(found) + 1
        found.append((at, *disturbed(fault, at, folder / str(at), [*arguments, *(["--force"] if old else [])])))
        assert at < 200
    print(json.dumps(found))
