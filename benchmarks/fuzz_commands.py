"""fuzz_commands.py: changed inputs given to the installed command, in real processes, and what counts as a defect of its answers.

Files and folders have names as strangers give them: with control characters, with dashes first, with spaces. Outputs belong into
a folder that is otherwise empty.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jsonschema
from fuzz_cases import Outcome, files_of
from fuzz_seeds import Seed, laid_out

NFN = Path(sys.executable).with_name("nfn")
_PROCESSOR = 30  # seconds, of which loading PyTorch takes several on a busy machine
_MEMORY = 1500 << 20  # bytes: PyTorch, and four times the input plus 300 MB
_NAMES = (
    "plain",
    "-dash first",
    "esc\x1b[31m",
    "line\nbreak",
    "wide\u202eturned",
    "sp ace",
    "percent%s{}",
    "back\\slash",
)
_ACTIVATIONS = ("relu", "tanh", "gelu", "sin", "sigmoid", "relu,tanh")


@dataclass(frozen=True)
class Call:
    """Arguments, and whether the answer is JSON."""

    arguments: list[str]
    as_json: bool


def through_the_command(number: int, run_seed: int, seeds: list[Seed]) -> tuple[str, Outcome]:
    """(container, outcome) of one case."""
    draw = random.Random(run_seed * 7919 + number)
    seed, content = files_of(number, run_seed, seeds)
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / draw.choice(_NAMES), Path(place) / "out"
        out.mkdir()
        laid_out(content, folder)
        before = _listing(folder)
        call = _call(seed, folder, out, draw)
        outcome = _run(call, Path(place))
        if not outcome.defect and _listing(folder) != before:
            outcome = Outcome("wrong", "input folder changed", str(_listing(folder)))
        # a page says of a refused input why it is; nothing else may be left
        left = sorted(path.name for path in out.rglob("*") if path.is_file() and path.name != "page.html")
        partial = [name for name in left if name.endswith(".tmp")]
        if not outcome.defect and (partial or (outcome.word.startswith("refused") and left)):
            outcome = Outcome("wrong", "output left behind a refusal", f"{call.arguments}: {left}")
    return f"{seed.container} {call.arguments[0]}", outcome


def _call(seed: Seed, folder: Path, out: Path, draw: random.Random) -> Call:
    given = str(folder / seed.entry) if seed.entry else str(folder)
    root = Path(__file__).resolve().parents[1] / "models" / "examples"
    relu = str(root / "cifar10gs-relu.safetensors")
    output = str(out / draw.choice(("o", "o.safetensors", "o.json")))
    how = ["--activation", draw.choice(_ACTIVATIONS)] if draw.random() < 0.5 else []
    choices: dict[str, list[list[str]]] = {
        "model": [
            ["symmetry-report", given, *how, "--norms"],
            ["symmetry-report", given, *how, "--html", str(out / "page.html")],
            ["canonicalize", given, "-o", output, *how],
            ["act", given, "--random", "-o", output, *how],
            ["reduce", given, "-o", output, *how],
            ["digest", given],
            ["fingerprint", given, *how],
            ["quantization-report", given, *how],
            ["equivalent", given, given, *how],
            ["diff", given, relu, *how],
            ["align", given, "--to", given, "-o", output, *how],
            ["merge", given, given, "-o", output, *how],
            ["scan", str(folder), *how],
            ["predict-generalization", given],
            ["classify-inr", given, "--activation", "sin", "--omega", "30"],
            ["render", given, "-o", str(out / "p.png"), "--size", "8", *how],
        ],
        "element": [["act", str(folder / "m.safetensors"), "--element", given, "-o", output]],
        "zoo": [
            ["zoo", "info", given],
            ["zoo", "import", given, "-o", output],
            ["zoo", "split", given],
            ["scan", given],
            ["symmetry-report", f"{given}#{draw.randrange(3)}"],
        ],
        "predictor": [
            ["predict-generalization", relu, "--predictor", given],
            ["classify-inr", relu, "--predictor", given],
            ["edit-inr", relu, "--predictor", given, "--activation", "sin", "-o", output],
        ],
        "images": [
            ["zoo", "fit-inrs", "--dataset", given, "--steps", "1", "--hidden", "4", "--train", "2", "-o", output]
        ],
        "picture": [["fit-inr", given, "--steps", "1", "--hidden", "4", "-o", output]],
    }
    arguments = draw.choice(choices[seed.reads])
    as_json = draw.random() < 0.5
    return Call([*arguments, "--json"] if as_json else arguments, as_json)


def _run(call: Call, place: Path) -> Outcome:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR, _PROCESSOR))

    began = time.monotonic()
    with (place / "stdout").open("w+b") as out, (place / "stderr").open("w+b") as err:
        process = subprocess.Popen(
            [str(NFN), *call.arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=limited,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            cwd=place,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [(handle.seek(0), handle.read())[1] for handle in (out, err)]
    details = f"{call.arguments}\n{texts[0][-1500:]!r}\n{texts[1][-1500:]!r}\n{time.monotonic() - began:.1f} s"
    defect = _defect(call, process.returncode, *texts)
    if not defect and used.ru_maxrss << 10 > _MEMORY:
        defect = f"memory: {call.arguments[0]}"
    word = {0: "analysed", 1: "answered no"}.get(process.returncode, f"refused {process.returncode}")
    return Outcome(word, defect, details if defect else "")


def _defect(call: Call, code: int, out: bytes, err: bytes) -> str:
    """What is wrong with an answer; "" for nothing."""
    command = call.arguments[0]
    if code not in (0, 1, 2, 3, 4):
        return f"exit code {code}: {command}"
    try:
        shown, said = out.decode(), err.decode()
    except UnicodeDecodeError:
        return f"bytes that are no text: {command}"
    if "Traceback" in said or "error: unexpected" in said:
        place = re.search(r"unexpected (\w+)", said)
        return f"unexpected {place[1] if place else 'traceback'}: {command}"
    if not all(line.isprintable() for line in (shown + said).splitlines()):
        return f"control characters: {command}"
    strange = [line for line in said.splitlines() if not line.startswith(("error: ", "note: "))]
    if strange and code != 2:
        return f"a line of others on standard error: {command}"
    if code in (3, 4) and "error: " not in said:
        return f"no reason given: {command}"
    return _defect_of_json(call, shown) if call.as_json and code != 2 else ""


def _defect_of_json(call: Call, shown: str) -> str:
    command = "-".join(call.arguments[:2]) if call.arguments[0] == "zoo" else call.arguments[0]
    schema = json.loads((files("nfn_cli") / "schemas" / f"{command}.json").read_text())
    for line in shown.splitlines():
        try:
            jsonschema.validate(json.loads(line, parse_constant=_no_number), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            return f"answer against its schema: {command}: {str(error).splitlines()[0][:80]}"
    return "" if shown else f"no answer: {command}"


def _no_number(spelled: str) -> float:
    raise ValueError(spelled)


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())
