"""The same input gives the same bytes, on one thread or two."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import NFN, nfn
from tests.train.made_zoo import MIXED, RELU, write_made_zoo
from tests.zoo.making import image_file

COMMANDS = {
    "canonicalize": ["canonicalize", "{a}"],
    "act": ["act", "{a}", "--random"],
    "reduce": ["reduce", "{a}"],
    "align": ["align", "{a}", "--to", "{b}"],
    "merge": ["merge", "{a}", "{b}"],
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two float64 chains, wide enough for the linear algebra library to use several threads."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate("ab"):
        generator, before, tensors = np.random.default_rng(seed), 32, {}
        for layer, after in enumerate([400, 400, 8]):
            tensors[f"{layer}.weight"] = generator.standard_normal((after, before)) * (2 / before) ** 0.5
            tensors[f"{layer}.bias"] = generator.standard_normal(after) * 0.1
            before = after
        save_file(tensors, folder / f"{name}.safetensors", metadata={"activation": "relu"})
    return folder / "a.safetensors", folder / "b.safetensors"


def written(arguments: list[str], pair: tuple[Path, Path], out: Path, threads: int) -> bytes:
    given = [argument.format(a=pair[0], b=pair[1]) for argument in arguments]
    number = str(threads)
    done = nfn(*given, "-o", out, OMP_NUM_THREADS=number, OPENBLAS_NUM_THREADS=number)
    assert done.code == 0, done.err
    return out.read_bytes()


@pytest.mark.parametrize(
    "command", ["canonicalize", *(pytest.param(c, marks=pytest.mark.slow) for c in COMMANDS if c != "canonicalize")]
)
def test_threads_change_no_byte(command: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    one = written(COMMANDS[command], pair, tmp_path / "one.safetensors", 1)
    assert written(COMMANDS[command], pair, tmp_path / "again.safetensors", 1) == one
    assert written(COMMANDS[command], pair, tmp_path / "two.safetensors", 2) == one


def test_another_seed_does_change_bytes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first = written(["act", "{a}", "--random"], pair, tmp_path / "first.safetensors", 1)
    assert written(["act", "{a}", "--random", "--seed", "1"], pair, tmp_path / "other.safetensors", 1) != first


# what makes pictures, zoos and predictors: run in a folder of inputs, as "out" and whatever else it writes
SMALL = "--epochs 3 --folds 2 --test-fraction 0.3"
MAKERS = {
    "zoo import": "zoo import made -o out",
    "zoo split": "zoo split made -o out",
    "fit-inr": "fit-inr picture.png -o out --steps 40 --threads {}",
    "render": "render inr.safetensors -o out.png --size 300",
    "edit-inr": "edit-inr inr.safetensors --style dilate -o out --preview out.png",
    "zoo fit-inrs": "zoo fit-inrs --dataset dots --steps 30 --group-size 20 --threads {} -o out",
    "zoo train-cnns": "zoo train-cnns --data dots --runs 4 --group-size 2 --steps 8 --batch-size 8 --threads {} -o out",
    "train probe": f"train generalization --zoo made --model probe --images dots {SMALL} -o out",
    "train unit-graph": f"train generalization --zoo made --model unit-graph {SMALL} -o out",
    "train monomial-nfn": f"train generalization --zoo relu --model monomial-nfn {SMALL} -o out",
    "train inr-classifier": "train inr-classifier inrs --model probe --epochs 2 -o out",
}
QUICK = ["zoo import", "render"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("inputs")
    image_file(folder / "dots")
    write_made_zoo(folder / "made", RELU, MIXED, runs=20)
    write_made_zoo(folder / "relu", RELU, runs=30)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(folder / "picture.png")
    fit = nfn("fit-inr", folder / "picture.png", "-o", folder / "inr.safetensors", "--steps", 5)
    zoo = nfn("zoo", "fit-inrs", "--dataset", folder / "dots", "--steps", 30, "--hidden", "8,8", "-o", folder / "inrs")
    assert (fit.code, zoo.code) == (0, 0), fit.err + zoo.err
    return folder


def made_in(folder: Path, inputs: Path, command: str, threads: int) -> dict[str, bytes]:
    shutil.copytree(inputs, folder)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    number = str(threads)
    done = subprocess.run(
        [str(NFN), *command.format(number).split()],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number, "MKL_NUM_THREADS": number},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    new = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder) not in before]
    return {str(path.relative_to(folder)): path.read_bytes() for path in new}


@pytest.mark.parametrize(
    "maker", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MAKERS if name not in QUICK)]
)
def test_threads_change_no_byte_of_what_is_made(maker: str, inputs: Path, tmp_path: Path) -> None:
    one = made_in(tmp_path / "one", inputs, MAKERS[maker], 1)
    assert any(name.startswith("out") for name in one)
    assert made_in(tmp_path / "two", inputs, MAKERS[maker], 2) == one
