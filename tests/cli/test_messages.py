"""Errors as a user reads them: one line that says what is wrong, where, and what would settle it; the same in JSON.

The table is the contract: a changed message is a changed line here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

RELU = {"activation": "relu"}


@dataclass(frozen=True)
class Case:
    command: str
    exit_code: int
    code: str
    message: str
    hint: str | None


CASES = (
    Case(
        "symmetry-report no.pt",
        4,
        "no-such-file",
        "no.pt: no such file",
        "check the path; a file on the hub is hf://owner/repo/file",
    ),
    Case("act --random -o x --", 2, "no-input", "an input has an empty name", None),
    Case("symmetry-report folder", 3, "needs-file", "folder: the folder holds no checkpoint", "name one file"),
    Case(
        "symmetry-report quiet.safetensors",
        3,
        "activation-unknown",
        "quiet.safetensors: the activation is not known from the file",
        "give it with --activation NAME",
    ),
    Case(
        "symmetry-report nan.safetensors",
        3,
        "non-finite-weights",
        "nan.safetensors: fc2.weight: weights are not finite: 1 NaN of 18 values",
        "use a checkpoint from before the training diverged",
    ),
    Case(
        "symmetry-report shape.safetensors",
        3,
        "shape-mismatch",
        "shape.safetensors: fc2.weight: reads 5 values, fc1.weight before it makes 6",
        "give the order with --layers NAME,NAME,…",
    ),
    Case(
        "symmetry-report short.safetensors",
        3,
        "truncated",
        "short.safetensors: the file is cut short: 192 bytes of data expected, 182 there",
        "download or export the safetensors file again",
    ),
    Case(
        "symmetry-report text.pt",
        3,
        "not-a-checkpoint",
        "text.pt: this is text, not a checkpoint",
        "export its weights to .npz or .safetensors",
    ),
    Case("symmetry-report empty.pt", 3, "empty-file", "empty.pt: the file is empty", "download or export it again"),
    Case(
        "symmetry-report none.safetensors",
        3,
        "no-tensors",
        "none.safetensors: the file holds no tensors",
        "save the weights: torch.save(model.state_dict(), …) or safetensors",
    ),
    Case(
        "symmetry-report rnn.safetensors",
        3,
        "recurrent",
        "rnn.safetensors: rnn.weight_hh_l0: a recurrent network, which is not analysed",
        "export its graph with torch.export (.pt2): what is recurrent is then frozen and the rest analysed",
    ),
    Case(
        "symmetry-report m.safetensors --pooling x",
        2,
        "wrong-usage",
        "m.safetensors: --pooling: unknown value 'x'",
        "one of none, average, max",
    ),
    Case(
        "symmetry-report m.safetensors --arch x.py:f",
        2,
        "code-not-trusted",
        "m.safetensors: x.py would be run as a program",
        "add --trust-code if you trust it",
    ),
    Case(
        "symmetry-report m.safetensors --arch torchvision:resnet18",
        3,
        "architecture-does-not-fit",
        "m.safetensors: not the tensors of torchvision:resnet18: conv1.weight is not in the file, needed (64, 3, 7, 7)",
        "name the architecture that the file was saved from, or leave out --arch",
    ),
    Case(
        "align m.safetensors --to wide.safetensors -o x",
        3,
        "different-architectures",
        "m.safetensors, wide.safetensors: not the same architecture: fc1.weight is 6×4 here and 7×4 there",
        "compare networks of one architecture; nfn diff takes those that differ in widths",
    ),
    Case(
        "symmetry-report m.safetensors --plot a.pdf",
        2,
        "wrong-usage",
        "a.pdf: a chart is a .png or an .svg file",
        "give the name such an ending",
    ),
    Case(
        "symmetry-report m.safetensors m.safetensors --plot a.svg",
        2,
        "wrong-usage",
        "--plot: a picture shows one checkpoint",
        "--html takes several",
    ),
    Case(
        "symmetry-report m.safetensors --html a.txt",
        2,
        "wrong-usage",
        "a.txt: a page is an .html file",
        "give the name such an ending",
    ),
    Case(
        "canonicalize m.safetensors -o there.safetensors",
        2,
        "output-exists",
        "there.safetensors: the output exists",
        "use --force to replace it",
    ),
    Case(
        "canonicalize m.safetensors -o m.safetensors --force",
        2,
        "output-is-input",
        "m.safetensors: the output is the input",
        "name another file",
    ),
    Case(
        "canonicalize m.safetensors -o folder",
        2,
        "output-is-a-folder",
        "folder: the output is a folder",
        "name a file in it",
    ),
    Case(
        "canonicalize m.safetensors -o nowhere/x.safetensors",
        4,
        "no-such-folder",
        "nowhere/x.safetensors: the folder does not exist",
        "make it first",
    ),
    Case("act m.safetensors -o x.safetensors", 2, "wrong-usage", "needs either --element FILE or --random", None),
    Case(
        "merge m.safetensors m.safetensors -o x.safetensors --weights a,b",
        2,
        "wrong-usage",
        "--weights: 'a,b' are not numbers with commas between them",
        "for example 0.5,0.3,0.2",
    ),
    Case(
        "barrier m.safetensors m.safetensors --data no.npz",
        4,
        "surroundings-failed",
        "m.safetensors: no.npz: cannot be read (No such file or directory)",
        None,
    ),
    Case(
        "symmetry-report folder#3",
        3,
        "not-a-zoo",
        "folder#3: the folder is no zoo",
        "it needs zoo.json, or weights.npy and layout.csv",
    ),
    Case("reduce m.safetensors", 2, "wrong-usage", "needs either -o OUT or --dry-run", None),
    Case(
        "render m.safetensors -o x.png",
        3,
        "not-an-inr",
        "m.safetensors: no INR of an image: its input is 4, not the two coordinates of a point",
        "an INR of an image takes two coordinates and gives one number or three",
    ),
)


def network(path: str, metadata: dict[str, str] | None = None, **replace: np.ndarray) -> None:
    tensors = {
        "fc1.weight": np.arange(24, dtype=np.float32).reshape(6, 4) - 11,
        "fc1.bias": np.ones(6, np.float32),
        "fc2.weight": np.arange(18, dtype=np.float32).reshape(3, 6) - 7,
    }
    save_file(tensors | replace, path, metadata=metadata)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a file for each fault."""
    made, before = tmp_path_factory.mktemp("messages"), Path.cwd()
    os.chdir(made)
    network("m.safetensors", RELU)
    network("quiet.safetensors")
    wide = {"fc1.weight": np.ones((7, 4)), "fc1.bias": np.ones(7), "fc2.weight": np.ones((3, 7))}
    network("wide.safetensors", RELU, **{name: array.astype(np.float32) for name, array in wide.items()})
    spoiled = np.ones((3, 6), np.float32)
    spoiled[1, 2] = np.nan
    network("nan.safetensors", RELU, **{"fc2.weight": spoiled})
    network("shape.safetensors", RELU, **{"fc2.weight": np.ones((3, 5), np.float32)})
    gates = {"rnn.weight_ih_l0": np.ones((8, 4), np.float32), "rnn.weight_hh_l0": np.ones((8, 2), np.float32)}
    network("rnn.safetensors", RELU, **gates)
    Path("short.safetensors").write_bytes(Path("m.safetensors").read_bytes()[:-10])
    Path("text.pt").write_text("hello\n")
    Path("empty.pt").write_text("")
    Path("there.safetensors").write_text("mine")
    save_file({}, "none.safetensors")
    Path("folder").mkdir()
    yield made
    os.chdir(before)


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """The command in this process: exit code, standard output, standard error."""
    from nfn_cli.cli.main import main

    monkeypatch.setattr(sys, "argv", ["nfn", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.mark.parametrize("case", CASES, ids=[case.command for case in CASES])
def test_an_error_is_one_line_and_one_object(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = case.command.split()
    words = [*words[:-1], ""] if words[-1] == "--" else words
    line = f"error: {case.message}{f'; {case.hint}' if case.hint else ''}\n"
    assert run(capsys, monkeypatch, *words) == (case.exit_code, "", line)
    code, out, err = run(capsys, monkeypatch, *words, "--json")
    assert (code, err) == (case.exit_code, line)
    answer = json.loads(out)
    assert answer["error"] == {"code": case.code, "message": case.message, "hint": case.hint}
    assert answer["schema"] == f"nfn.{words[0]}/1"


def test_what_concerns_no_input_is_an_object_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("damaged").mkdir(exist_ok=True)
    Path("damaged/card.json").write_bytes(b'{"\xf8')
    code, out, err = run(capsys, monkeypatch, "classify-inr", "m.safetensors", "--predictor", "damaged", "--json")
    assert (code, err.count("\n")) == (3, 1)
    assert json.loads(out)["error"]["message"] in err


def test_what_is_right_has_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capsys, monkeypatch, "symmetry-report", "m.safetensors", "--json")
    assert (code, err) == (0, "")
    assert "error" not in json.loads(out)
