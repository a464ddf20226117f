"""What help lists is there, and nothing is imported for it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nfn_cli.cli
from nfn_cli.cli.listed_commands import Listed
from nfn_cli.cli.main import Commands
from nfn_cli.cli.train import TrainCommands
from nfn_cli.cli.zoo import ZooCommands

from .running import nfn

GROUPS = {"": Commands, "zoo": ZooCommands, "train": TrainCommands}
ALL = [(group, listed) for group, commands in GROUPS.items() for listed in commands.listed]


@pytest.mark.parametrize(("group", "listed"), ALL, ids=[f"{group} {listed.name}".strip() for group, listed in ALL])
def test_a_listed_command_is_there_and_has_its_name_and_help(group: str, listed: Listed) -> None:
    command = listed.loaded()
    assert command.name == listed.name
    assert command.help


def test_every_command_of_the_package_is_listed() -> None:
    listed = {each.source.split(":")[0] for _, each in ALL}
    sources = {path.stem: ast.parse(path.read_text()) for path in Path(nfn_cli.cli.__file__).parent.glob("*.py")}
    answers = {
        name
        for name, tree in sources.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and "typer.Option" in ast.unparse(node.args)
        and not node.name.startswith("_")
    }
    assert answers
    assert answers <= listed


def test_no_summary_is_cut() -> None:
    for group in GROUPS:
        shown = nfn(*group.split(), "--help").out
        assert "..." not in shown.replace("[ARGS]...", "")


def test_help_imports_no_command() -> None:
    code = "import sys; sys.argv = ['nfn', '--help']; from nfn_cli.cli.main import app\n" \
        "try: app()\nexcept SystemExit: pass\n" \
        "print([m for m in sys.modules if m in ('numpy', 'torch', 'nfn_cli.cli.canonicalize', 'nfn_cli.cli.options')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_slip_is_answered_with_the_nearest_command() -> None:
    done = nfn("canonicalise")
    assert done.code == 2
    assert "canonicalize" in done.err
