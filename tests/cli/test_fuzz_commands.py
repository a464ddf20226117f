"""What `benchmarks/fuzz.py --through-cli` takes for a defect is one, and a whole input has none."""

from __future__ import annotations

import json

import pytest

from tests.benchmark_scripts import benchmark

TOLD = b"error: m.npz: damaged; export it again\n"
ANSWER = json.dumps(
    {"schema": "nfn.digest/1", "path": "m", "error": {"code": "damaged", "message": "m: damaged", "hint": None}}
).encode()


def defect(code: int, out: bytes, err: bytes, as_json: bool = False) -> str:
    commands = benchmark("fuzz_commands")
    found: str = commands._defect(commands.Call(["digest", "m"], as_json), code, out, err)
    return found


@pytest.mark.parametrize(
    ("code", "out", "err", "as_json"),
    [(0, b"0123  m\n", b"", False), (3, b"", TOLD, False), (3, ANSWER + b"\n", TOLD, True)],
)
def test_what_is_right_is_no_defect(code: int, out: bytes, err: bytes, as_json: bool) -> None:
    assert defect(code, out, err, as_json) == ""


@pytest.mark.parametrize(
    ("code", "out", "err", "as_json", "expected"),
    [
        (-11, b"", b"", False, "exit code -11"),
        (3, b"", b"Traceback (most recent call last):\n", False, "unexpected traceback"),
        (4, b"", b"error: unexpected KeyError: 'x'\n", False, "unexpected KeyError"),
        (3, b"", b"error: a\x1b[31m\n", False, "control characters"),
        (3, b"", b"warning: something old\n" + TOLD, False, "a line of others"),
        (3, b"", b"", False, "no reason given"),
        (3, b"", TOLD, True, "no answer"),
        (0, b'{"schema": "nfn.digest/1"}\n', b"", True, "answer against its schema"),
        (0, ANSWER.replace(b"null", b"NaN"), b"", True, "answer against its schema"),
    ],
)
def test_a_defect_is_noticed(code: int, out: bytes, err: bytes, as_json: bool, expected: str) -> None:
    assert defect(code, out, err, as_json).startswith(expected)


def test_a_changed_input_goes_through_the_installed_command() -> None:
    seeds, commands = benchmark("fuzz_seeds"), benchmark("fuzz_commands")
    known = [seed for seed in seeds.seeds(None, benchmark("fuzz").ROOT / "models") if seed.container == "safetensors"]
    called, outcome = commands.through_the_command(0, 0, known)
    assert called.startswith("safetensors ")
    assert outcome.defect == ""
