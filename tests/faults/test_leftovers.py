"""What a killed run left is removed by the next run in that folder, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nfn_cli.checkpoint import leftovers
from nfn_cli.checkpoint.atomic_write import atomic_folder, atomic_output

pytest.importorskip("fcntl")

KILLED = """
import os, sys
from nfn_cli.checkpoint.atomic_write import atomic_folder, atomic_output
with {kind}(sys.argv[1]) as made:
    if {kind} is atomic_folder:
        (made / "part").write_text("half")
    print("begun", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_SWEPT", set())


@pytest.mark.parametrize("kind", ["atomic_output", "atomic_folder"])
def test_the_next_run_removes_what_a_dead_one_left_and_lets_a_living_one_be(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED.format(kind=kind), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        (temporary,) = tmp_path.iterdir()
        time.sleep(0.3)
        with atomic_output(tmp_path / "first"):
            pass
        assert temporary.exists()  # it lives: the negative control
        run.communicate("now\n")
    assert temporary.exists()
    leftovers._SWEPT.clear()
    with atomic_folder(tmp_path / "second"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]


@pytest.mark.parametrize("name", [".x.tmp", "x.12-0123abcd.tmp", ".x.12-0123abcd.old", ".x.12-0123abc.tmp"])
def test_a_name_that_no_run_makes_is_let_be(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    time.sleep(0.3)
    with atomic_output(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out"])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".a.12-0123abcd.tmp").symlink_to(tmp_path / "elsewhere")
    (folder / ".b.12-0123abcd.tmp").mkdir()
    (folder / ".b.12-0123abcd.tmp" / "link").symlink_to(tmp_path / "elsewhere")
    time.sleep(0.3)
    with atomic_output(folder / "out"):
        pass
    assert sorted(os.listdir(folder)) == [".a.12-0123abcd.tmp", "out"]
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"
