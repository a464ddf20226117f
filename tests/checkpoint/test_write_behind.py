"""Large files are written beside computing: the bytes are those of one write after another, and errors end it."""

from __future__ import annotations

import _thread
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.checkpoint import write_behind as module
from nfn_cli.checkpoint.write_behind import write_behind


def pieces(count: int, size: int = 1 << 20) -> Iterator[memoryview]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield memoryview(generator.bytes(size))


def test_the_bytes_are_those_of_one_write_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FLUSHED", 3 << 20)
    with (tmp_path / "behind").open("wb") as handle:
        write_behind(handle, pieces(10))
    assert (tmp_path / "behind").read_bytes() == b"".join(pieces(10))


def test_a_user_without_threads_left_gets_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "start_new_thread", none_left)
    with (tmp_path / "plain").open("wb") as handle:
        write_behind(handle, pieces(5))
    assert (tmp_path / "plain").read_bytes() == b"".join(pieces(5))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_ends_it() -> None:
    asked, threads = 0, _thread._count()

    def counted() -> Iterator[memoryview]:
        nonlocal asked
        for piece in pieces(50):
            asked += 1
            yield piece

    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb", buffering=0) as handle:
        write_behind(handle, counted())
    assert asked < 50
    assert _thread._count() == threads


def test_a_piece_that_cannot_be_computed_ends_it(tmp_path: Path) -> None:
    def broken() -> Iterator[memoryview]:
        yield from pieces(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), (tmp_path / "broken").open("wb") as handle:
        write_behind(handle, broken())
