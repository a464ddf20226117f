"""Help: every example is a line that the command takes; completion is right, in a real shell, and loads nothing heavy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import Any

import pytest

from nfn_cli.cli.listed_commands import Listed
from nfn_cli.cli.main import Commands
from nfn_cli.cli.train import TrainCommands
from nfn_cli.cli.zoo import ZooCommands
from nfn_cli.errors import ExitCode

from .running import NFN

LISTED = {
    **{str(each.name): each for each in Commands.listed if each.name not in ("zoo", "train")},
    **{f"zoo {each.name}": each for each in ZooCommands.listed},
    **{f"train {each.name}": each for each in TrainCommands.listed},
}


def examples(command: Any) -> list[str]:
    """The lines of its help that call nfn; a list that is piped in is left out."""
    lines = [line.strip() for line in (command.help or "").partition("Example")[2].splitlines()]
    return [line[line.index("nfn ") :] for line in lines if re.match(r"(nfn |.*\| nfn )", line)]


def parsed(command: Any, name: str, line: str) -> None:
    """As the shell and the command line's parser would take it; nothing is run."""
    words = shlex.split(line)[1 + len(name.split()) :]
    command.make_context(name, words)


@pytest.mark.parametrize("name", LISTED)
def test_every_example_is_a_line_that_the_command_takes(name: str) -> None:
    listed: Listed = LISTED[name]
    command = listed.loaded()
    found = [line for line in examples(command) if line.startswith(f"nfn {name} ") or line == f"nfn {name}"]
    assert found
    for line in found:
        parsed(command, name, line)


@pytest.mark.parametrize("line", ["nfn act a.pt --rnadom -o b.pt", "nfn act a.pt", "nfn act a.pt -o b.pt --seed x"])
def test_a_wrong_example_would_be_noticed(line: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 — typer has had its own click for some time, and click's before
        parsed(LISTED["act"].loaded(), "act", line)
    assert "UsageError" in {kind.__name__ for kind in type(raised.value).__mro__}


@pytest.mark.parametrize("name", LISTED)
def test_every_option_says_what_it_does(name: str) -> None:
    for parameter in LISTED[name].loaded().params:
        assert getattr(parameter, "help", None), parameter.name


def completed(line: str, **environment: str) -> list[str]:
    words = line.split(" ")
    asked = {"_NFN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([NFN], capture_output=True, text=True, check=False, env=os.environ | asked | environment)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nfn canon", ["canonicalize"]),
        ("nfn canonicalize a.pt --scale p", ["pow2"]),
        ("nfn canonicalize a.pt --activation leaky", ["leaky_relu"]),
        ("nfn canonicalize a.pt --pooling a", ["average"]),
        ("nfn predict-generalization a.pt --model mono", ["monomial-nfn"]),
        ("nfn edit-inr a.pt --style e", ["erode"]),
        ("nfn classify-inr a.pt --predictor inr-mnist-p", ["inr-mnist-phasor"]),
        ("nfn zoo fit", ["fit-inrs"]),
        ("nfn canonicalize a.pt --activation zzz", []),
    ],
)
def test_commands_and_words_of_options_complete(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


@pytest.mark.parametrize(
    "line", ["nfn canon", "nfn canonicalize a.pt --activation re", "nfn classify-inr --predictor i"]
)
def test_completion_does_not_load_torch(line: str) -> None:
    code = (
        "import sys\nsys.argv = ['nfn']\nfrom nfn_cli.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join({'torch', 'scipy'} & set(sys.modules)))\n"
    )
    asked = {"_NFN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | asked
    )
    assert done.stdout.split()
    assert done.stderr == ""


def script(shell: str) -> str:
    """What `nfn --install-completion` puts where the shell reads it."""
    asked = os.environ | {"_NFN_COMPLETE": f"source_{shell}"}
    return subprocess.run([NFN], capture_output=True, text=True, check=True, env=asked).stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_real_bash_completes() -> None:
    shown = script("bash")
    asked = f"""{shown}
    COMP_WORDS=(nfn symm) COMP_CWORD=1 COMP_LINE='nfn symm' COMP_POINT=8
    _nfn_completion nfn symm nfn
    echo "${{COMPREPLY[@]}}"
    """
    path = f"{NFN.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
    )
    assert done.stdout.split() == ["symmetry-report"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str) -> None:
    shown = script(shell)
    assert f"complete_{shell}" in shown


def test_examples_are_shown_as_they_are_pasted() -> None:
    """No line of the help is wider than a terminal, and none ends within a command unless the shell goes on with the next."""
    cut = 0
    for name, listed in LISTED.items():
        command = listed.loaded()
        shown = command.get_help(command.make_context(f"nfn {name}", [], resilient_parsing=True))
        assert max(map(len, shown.splitlines())) <= 80, name
        joined = re.sub(r" \\\n +", " ", shown)
        cut += shown.count("\\\n")
        for line in examples(command):
            assert re.search(rf"^ .*{re.escape(line)}$", joined, re.MULTILINE), line
    assert cut > 5  # the control: some are too long for a line


def test_the_help_of_nfn_says_what_exit_codes_mean() -> None:
    shown = " ".join(subprocess.run([NFN, "--help"], capture_output=True, text=True, check=True).stdout.split())
    for code in ExitCode:
        assert re.search(rf"\b{int(code)} [a-z]", shown)
