"""Progress: on a terminal alone, on standard error alone, gone when the work is done, and no answer goes astray."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.zoo.making import image_file

from .running import NFN, RELU, TANH, nfn


def on_a_terminal(*command: object, interrupted_when: Callable[[], object] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output (a pipe), and what a terminal at standard error was sent."""
    leader, follower = pty.openpty()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=follower, env=environment)
    os.close(follower)
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(leader, 4096):
                shown.extend(part)
        except OSError:  # how a terminal says that its other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    while interrupted_when is not None and not interrupted_when():
        assert process.poll() is None
        time.sleep(0.01)
    if interrupted_when is not None:
        process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=100)[0].decode()
    reader.join()
    os.close(leader)
    return process.returncode, out, shown.decode()


def wide(path: Path, seed: int) -> Path:
    """Matching its units takes more than a second."""
    generator = np.random.default_rng(seed)
    shapes = {"fc1": (600, 20), "fc2": (600, 600), "fc3": (600, 600), "fc4": (5, 600)}
    tensors = {f"{name}.weight": generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, path, {"activation": "relu"})
    return path


def test_several_inputs_have_a_bar_with_the_time_left_and_answers_stay_on_standard_output() -> None:
    code, out, shown = on_a_terminal(NFN, "symmetry-report", RELU, TANH, "--json")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "symmetry-report" in shown
    assert "left" in shown
    assert "schema" not in shown


@pytest.mark.parametrize("command", ["align", "merge"])
def test_long_work_shows_the_time_it_takes_and_takes_the_line_away(tmp_path: Path, command: str) -> None:
    a, b, out = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "out"))
    wide(a, 0), wide(b, 1)
    arguments = [a, "--to", b, "-o", out] if command == "align" else [a, b, "-o", out]
    code, answer, shown = on_a_terminal(NFN, command, *arguments)
    assert code == 0
    assert out.name in answer
    assert re.search(rf"{command}.*0:00:0", shown)
    assert shown.rstrip().endswith("\x1b[2K")  # the last thing sent clears the line
    assert not re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]|\r", "", shown.rpartition("\x1b[1A")[2]).strip()


def test_without_a_terminal_nothing_is_shown(tmp_path: Path) -> None:
    a, b = wide(tmp_path / "a.safetensors", 0), wide(tmp_path / "b.safetensors", 1)
    run = nfn("align", a, "--to", b, "-o", tmp_path / "out.safetensors")
    assert (run.code, run.err) == (0, "")
    assert nfn("symmetry-report", RELU, TANH, "--json").err == ""


def test_quick_work_shows_nothing_and_slow_work_does() -> None:
    for seconds, expected in (("0", False), ("1.6", True)):
        code = f"import time; from nfn_cli.cli.work_progress import waiting\nwith waiting('thinking'): time.sleep({seconds})"
        assert ("thinking" in on_a_terminal(sys.executable, "-c", code)[2]) == expected


def test_a_collection_that_nobody_has_counted_shows_how_many_are_done(tmp_path: Path) -> None:
    for number in range(12):
        shutil.copy((RELU, TANH)[number % 2], tmp_path / f"{number:02}.safetensors")
    code, out, shown = on_a_terminal(NFN, "scan", tmp_path, "--json")
    assert code == 0
    assert out.count('"kind": "network"') == 12
    assert re.search(r"scan: \d+ done", shown)
    assert "schema" not in shown


def test_an_audit_shows_its_stages() -> None:
    code, out, shown = on_a_terminal(
        NFN, "audit-invariance", "generalization-cifar10gs-relu", "--on", RELU, "--samples", 2, "--json"
    )
    assert code in (0, 1)
    assert out.count("\n") == 1
    assert re.search(r"audit-invariance.*%", shown)


def test_an_interrupt_gives_the_terminal_its_cursor_back(tmp_path: Path) -> None:
    images = image_file(tmp_path / "dots")
    quick = ("--steps", 100, "--hidden", "8,8", "--group-size", 4, "--threads", 1)
    code, out, shown = on_a_terminal(
        NFN,
        "zoo",
        "fit-inrs",
        "--dataset",
        images,
        *quick,
        "-o",
        tmp_path / "zoo",
        interrupted_when=lambda: list(tmp_path.glob("zoo/shards/*.safetensors")),
    )
    assert (code, out) == (130, "")
    assert "fitting 80 images" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.rstrip().endswith("interrupted")


def test_a_single_fit_shows_that_it_is_at_work(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(tmp_path / "p.png")
    code, out, shown = on_a_terminal(NFN, "fit-inr", tmp_path / "p.png", "-o", tmp_path / "o", "--steps", 2000)
    assert code == 0
    assert "2000 steps" in out
    assert re.search(r"fit-inr.*0:00:0", shown)


def test_a_line_between_networks_shows_how_many_of_its_points_were_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", inputs=generator.random((40, 20), np.float32), labels=generator.integers(0, 5, 40))
    a, b = wide(tmp_path / "a.safetensors", 0), wide(tmp_path / "b.safetensors", 1)
    code, out, shown = on_a_terminal(NFN, "barrier", a, b, "--data", tmp_path / "d.npz", "--points", 60, "--json")
    assert (code, out.count("\n")) == (0, 1)
    assert re.search(r"barrier.*[1-9]\d?%.*left", shown)
