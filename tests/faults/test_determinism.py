"""The same input gives the same bytes, on one thread or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import nfn

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
