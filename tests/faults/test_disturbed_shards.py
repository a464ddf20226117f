"""Shards that are replaced: whatever ends it, what is there is the old checkpoint, the new one, or none; never some of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.checkpoint import Checkpoint, atomic_write, load, save
from nfn_cli.errors import NfnError
from tests.faults.test_linked_shards import INDEX, write_shards


def value(index: Path) -> set[float]:
    """The numbers that a checkpoint of one number consists of."""
    return {float(entry) for array in load(index).tensors.values() for entry in np.unique(array)}


def filled(checkpoint: Checkpoint, number: float) -> Checkpoint:
    tensors = {name: np.full(array.shape, number, array.dtype) for name, array in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)


def interrupting(at: int) -> Callable[[Path, Path], None]:
    """An exchange of files of which the `at`-th is not made."""
    exchange, calls = os.replace, []

    def made(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == at:
            raise KeyboardInterrupt
        exchange(source, target)

    return made


@pytest.mark.parametrize("own_folder", [True, False])
def test_an_interrupt_at_any_exchange_leaves_no_mixture(
    own_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "given")
    given = load(tmp_path / "given" / INDEX)
    seen: set[str] = set()
    for at in range(1, 6):
        out = tmp_path / str(at) if own_folder else tmp_path / f"{at}.json"
        index = out / INDEX if own_folder else out
        save(filled(given, 7), out)
        assert value(index) == {7.0}
        monkeypatch.setattr(atomic_write.os, "replace", interrupting(at))
        try:
            save(filled(given, 8), out, force=True)
        except KeyboardInterrupt:
            seen.add("interrupted")
        monkeypatch.undo()
        try:
            found = value(index)
        except NfnError:
            found = set()
        assert found in ({7.0}, {8.0}, set()), f"exchange {at}: old and new"
        seen.add(str(found))
    assert {"interrupted", "set()", "{8.0}"} <= seen


def test_a_full_disk_leaves_the_old_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path / "given")
    given = load(tmp_path / "given" / INDEX)
    save(filled(given, 7), tmp_path / "out")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_write.os, "fsync", full)
    with pytest.raises(NfnError, match="disk is full"):
        save(filled(given, 8), tmp_path / "out", force=True)
    monkeypatch.undo()
    assert value(tmp_path / "out" / INDEX) == {7.0}
