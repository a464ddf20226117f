"""Chains whose file is larger than the memory there is: canonicalized all the same, and to the same bytes as without a limit."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfn_cli.canonical.blocks import BlockMatrix, Room
from nfn_cli.checkpoint import load, mapped_tensors
from tests.benchmark_scripts import benchmark
from tests.cli.running import ROOT, nfn

SIZE = ROOT / "benchmarks" / "size.py"
MIB = 1 << 20


def bytes_under_a_limit(code: str, limit: int) -> int:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit * MIB, limit * MIB))

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limited, capture_output=True, check=False)
    return done.returncode


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("size") / "chain.safetensors"
    benchmark("size").write_chain(path, 2048, 37)  # 36 layers of 16 MiB
    return path


def test_a_file_that_the_limit_lets_nobody_load_is_canonicalized(chain: Path, tmp_path: Path) -> None:
    limit = 600
    load_whole = f"import numpy, nfn_cli; numpy.fromfile({str(chain)!r}, numpy.uint8)"
    assert bytes_under_a_limit(load_whole, limit) != 0, "the limit does not bind"
    found = benchmark("size").canonicalize(chain, tmp_path / "limited.safetensors", limit)
    assert found.code == 0, found.message


@pytest.mark.slow
def test_the_limit_changes_no_byte(chain: Path, tmp_path: Path) -> None:
    assert benchmark("size").canonicalize(chain, tmp_path / "limited.safetensors", 600).code == 0
    assert nfn("canonicalize", chain, "-o", tmp_path / "free.safetensors").code == 0
    assert (tmp_path / "limited.safetensors").read_bytes() == (tmp_path / "free.safetensors").read_bytes()


def test_too_little_memory_is_said_in_one_line_and_leaves_nothing(chain: Path, tmp_path: Path) -> None:
    found = benchmark("size").canonicalize(chain, tmp_path / "out.safetensors", 330)
    assert found.code == 4
    assert "memory" in found.message
    assert "Traceback" not in found.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_four_gigabytes_under_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SIZE), "--megabytes", "4096", "--limit", "1024", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["file"] > 4000


def test_shards_stay_shards_and_hold_what_one_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file, save_file

    generator = np.random.default_rng(0)
    tensors = {
        f"{i}.{role}": generator.standard_normal((16, 16) if role == "weight" else 16).astype(np.float32)
        for i in range(4)
        for role in ("weight", "bias")
    }
    save_file(tensors, tmp_path / "one.safetensors", metadata={"activation": "relu"})
    shards = tmp_path / "shards"
    shards.mkdir()
    where = {name: f"part-{i // 4}.safetensors" for i, name in enumerate(tensors)}
    for shard in sorted(set(where.values())):
        part = {name: array for name, array in tensors.items() if where[name] == shard}
        save_file(part, shards / shard, metadata={"activation": "relu"})
    (shards / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert nfn("canonicalize", shards, "-o", tmp_path / "out").code == 0
    assert nfn("canonicalize", tmp_path / "one.safetensors", "-o", tmp_path / "out.safetensors").code == 0
    whole = load_file(tmp_path / "out.safetensors")
    joined = {k: v for shard in set(where.values()) for k, v in load_file(tmp_path / "out" / shard).items()}
    assert set(whole) == set(joined)
    assert all(np.array_equal(whole[name], joined[name]) for name in whole)
    assert sorted(os.listdir(tmp_path / "out")) == ["model.safetensors.index.json", *sorted(set(where.values()))]


def test_windows_hold_what_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import save_file

    tensors = {f"t{i}": np.arange(i * 100, dtype=np.float32) for i in range(30)}
    save_file(tensors, tmp_path / "many.safetensors")
    monkeypatch.setattr(mapped_tensors, "WINDOW", 3000)
    monkeypatch.setattr(mapped_tensors, "_KEPT", 5000)
    found = load(tmp_path / "many.safetensors").tensors
    for _ in range(2):
        assert all(np.array_equal(found[name], array) for name, array in tensors.items())


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import save_file

    from nfn_cli.errors import Refused

    path = tmp_path / "many.safetensors"
    save_file({f"t{i}": np.zeros(1000) for i in range(4)}, path)
    monkeypatch.setattr(mapped_tensors, "WINDOW", 8000)
    found = load(path).tensors
    os.truncate(path, 9000)
    with pytest.raises(Refused, match="changed while it was read"):
        found["t3"]


def test_blocks_give_the_same_whether_they_stand_in_memory_or_not() -> None:
    matrix = np.random.default_rng(0).random((700, 50))
    made: list[int] = []

    def blocks() -> Any:
        made.append(1)
        return (matrix[start : start + 90] for start in range(0, 700, 90))

    streamed = BlockMatrix((700, 50), blocks)
    kept = Room().held(streamed)
    assert Room(left=1000).held(streamed) is streamed
    left, right = np.random.default_rng(1).random(700), np.random.default_rng(2).random(50)
    made.clear()
    assert np.array_equal(kept.times(right), streamed.times(right))
    assert np.array_equal(kept.times_left(left), streamed.times_left(left))
    assert len(made) == 2  # only the streamed one made its blocks again
    np.testing.assert_allclose(streamed.times(right), matrix @ right, rtol=1e-12)
    np.testing.assert_allclose(streamed.times_left(left), left @ matrix, rtol=1e-12)
    np.testing.assert_array_equal(streamed.largest_left(left), (left[:, None] * matrix).max(0))
    np.testing.assert_array_equal(streamed.largest_right(right), (matrix * right).max(1))
