"""Rooms import downward only, and torch stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nfn_cli"
# from the ground up; a room may import itself and what stands before it (train/ makes what predictors/ reads)
ORDER = (
    "printable",
    "errors",
    "checkpoint",
    "graph",
    "symmetry",
    "canonical",
    "match",
    "networks",
    "zoo",
    "predictors",
    "train",
    "api",
    "cli",
)
TORCH_ROOMS = {"networks", "train", "predictors"}
ZOO_MAKING = {
    "batched_cnn.py",
    "batched_convolution.py",
    "group_optimizer.py",
    "inr_picture.py",
    "layer_end.py",
    "native_convolution.py",
    "native_layer_end.py",
    "sine_fit.py",
    "training_run.py",
}
TORCH_FREE_FILES = {"card.py", "chain_input.py", "shipped.py", "generalization.py", "__init__.py"}


def imports(source: str, module_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(source)
    nodes = ast.walk(tree)
    if module_level_only:
        nodes = iter(_eager(tree.body))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _eager(body: list[ast.stmt]) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        found.append(node)
    return found


def upward(room: str, source: str) -> list[str]:
    bad = []
    for name in imports(source):
        parts = name.split(".")
        if parts[0] != "nfn_cli" or len(parts) < 2:
            continue
        other = parts[1]
        if ORDER.index(other) > ORDER.index(room):
            bad.append(name)
    return bad


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name != "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_downward_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert upward(room, path.read_text()) == []


def test_the_check_notices_an_upward_import() -> None:
    assert upward("graph", "from nfn_cli.symmetry.solve import find_symmetry") == ["nfn_cli.symmetry.solve"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_imported_eagerly_only_where_tensors_are_trained(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    eager = [name for name in imports(path.read_text(), module_level_only=True) if name.split(".")[0] == "torch"]
    trains = room in TORCH_ROOMS or (room == "zoo" and path.name in ZOO_MAKING)
    if not trains or (room == "predictors" and path.name in TORCH_FREE_FILES):
        assert eager == []


def test_files_have_telling_names() -> None:
    assert not {"utils.py", "helpers.py", "common.py", "misc.py"} & {path.name for path in PACKAGE.rglob("*.py")}


EXAMPLE = PACKAGE.parent / "models" / "examples" / "cifar10gs-relu.safetensors"


@pytest.mark.parametrize("arguments", [["--help"], ["symmetry-report", str(EXAMPLE)]], ids=["help", "report"])
def test_these_commands_do_not_load_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['nfn', *{arguments!r}]\n"
        "from nfn_cli.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_torch_check_can_fail() -> None:
    code = "import sys, torch; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0


def test_import_nfn_cli_is_lazy() -> None:
    code = "import sys, nfn_cli; assert 'numpy' not in sys.modules; nfn_cli.load; assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
