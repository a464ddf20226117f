"""Folders as outputs: whole or not there, and what else they hold stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nfn_cli.checkpoint.atomic_write import atomic_folder
from nfn_cli.errors import SurroundingsFailed, WrongUsage


def test_a_folder_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as made:
        (made / "a").write_text("new")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")

    def fails() -> None:
        with atomic_folder(tmp_path / "out", force=True) as made:
            (made / "a").write_text("half")
            raise error

    with pytest.raises(error):
        fails()
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_else_the_folder_holds_stays_where_it_is_to_be_kept(tmp_path: Path) -> None:
    for keep in (True, False):
        out = tmp_path / str(keep)
        out.mkdir()
        (out / "notes").write_text("mine")
        (out / "card").write_text("old")
        with atomic_folder(out, force=not keep, keep=keep) as made:
            (made / "card").write_text("new")
        assert (out / "card").read_text() == "new"
        assert (out / "notes").exists() == keep


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def late() -> None:
        with atomic_folder(tmp_path / "out") as made:
            (made / "a").write_text("mine")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "b").write_text("theirs")

    with pytest.raises(WrongUsage, match="exists"):
        late()
    assert os.listdir(tmp_path / "out") == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_missing_parent_is_said(tmp_path: Path) -> None:
    with pytest.raises(SurroundingsFailed) as told, atomic_folder(tmp_path / "none" / "out"):
        pass
    assert told.value.code == "no-such-folder"


def test_an_interrupt_while_the_rest_is_moved_loses_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("card", "notes", "more"):
        (out / name).write_text(f"old {name}")
    rename, moved = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        moved.append(self.name)
        if self.name in ("notes", "more") and moved.count(self.name) == 1:
            raise KeyboardInterrupt
        return rename(self, target)

    def replace() -> None:
        with atomic_folder(out, keep=True) as made:
            (made / "card").write_text("new card")

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace()
    monkeypatch.undo()
    found = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found["notes"] == "old notes"
    assert found["more"] == "old more"
    assert (out / "card").read_text() == "new card"
