"""Importing writes the same networks and columns again as shards, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.zoo import import_zoo as importing
from nfn_cli.zoo.import_zoo import import_zoo
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.small_cnn import read_zoo
from tests.zoo.test_checkpoint_folder import folder_of_mlps
from tests.zoo.tiny_zoo import write_zoo


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_small_cnn_zoo_comes_back_tensor_by_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zoo(tmp_path / "old", runs=7)
    monkeypatch.setattr(importing, "_SHARD_BYTES", 3000)  # several shards
    done = import_zoo(tmp_path / "old", tmp_path / "new", final_only=False)
    assert done.rows == 14
    assert len(list((tmp_path / "new" / "shards").glob("*.safetensors"))) > 2
    weights, biases = read_zoo(tmp_path / "old", final_only=False).chains()
    new = open_zoo(tmp_path / "new", final_only=False)
    tensors = new.families[0].tensors()
    assert np.array_equal(tensors["conv2.weight"].reshape(weights[1].shape), weights[1])
    assert np.array_equal(tensors["fc.bias"], biases[2])
    old = open_zoo(tmp_path / "old", final_only=False)
    assert old.families[0].graph == new.families[0].graph
    assert new.columns["run"].tolist() == old.columns["run"].tolist()
    assert new.numbers("source_row").tolist() == list(range(14))


def test_rows_that_are_final_stay_final(tmp_path: Path) -> None:
    write_zoo(tmp_path / "old", runs=4, run_column="modeldir")
    metrics = tmp_path / "old" / "metrics.csv.gz"
    import gzip

    text = gzip.decompress(metrics.read_bytes()).decode().splitlines()
    text[2] = text[2].replace("r0,2,", "r0,1,")  # the run r0 stopped early: it has no last checkpoint
    metrics.write_bytes(gzip.compress("\n".join(text).encode()))
    import_zoo(tmp_path / "old", tmp_path / "new", final_only=False)
    for folder in ("old", "new"):
        zoo = open_zoo(tmp_path / folder)
        assert zoo.columns["modeldir"].tolist() == ["r1", "r2", "r3"]


def test_checkpoints_become_shards_and_those_without_a_score_are_left_out(tmp_path: Path) -> None:
    written = folder_of_mlps(tmp_path / "runs")
    table = (tmp_path / "runs" / "scores.csv").read_text().replace("b.st,relu,0.1", "b.st,relu,")
    (tmp_path / "runs" / "scores.csv").write_text(table + "gone.st,relu,0.5\n")
    done = import_zoo(tmp_path / "runs", tmp_path / "zoo", scores=["score"])
    assert sorted(done.families.values()) == [1, 1, 1]
    assert [(each.path, each.code) for each in done.left_out] == [("gone.st", "no-such-file"), ("1 rows", "no-score")]
    zoo = open_zoo(tmp_path / "zoo")
    assert sorted(zoo.columns["path"].tolist()) == ["a.st", "c.st", "deep/t.npz"]
    for row, path in enumerate(zoo.columns["path"].tolist()):
        for name, array in zoo.checkpoint(row).tensors.items():
            assert np.array_equal(array, written[path][name])
    with pytest.raises(Refused, match="no column 'accuracy'"):
        import_zoo(tmp_path / "runs", tmp_path / "other", scores=["accuracy"])


def test_only_a_zoo_is_ever_replaced(tmp_path: Path) -> None:
    write_zoo(tmp_path / "old", runs=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(WrongUsage):
            import_zoo(tmp_path / "old", tmp_path / "mine", force=force)
        with pytest.raises(WrongUsage, match="the output is the input"):
            import_zoo(tmp_path / "old", tmp_path / "old", force=force)
    assert files_in(tmp_path / "mine") == ["thesis.txt"]
    import_zoo(tmp_path / "old", tmp_path / "zoo")
    with pytest.raises(WrongUsage, match="--force"):
        import_zoo(tmp_path / "old", tmp_path / "zoo")
    import_zoo(tmp_path / "old", tmp_path / "zoo", final_only=False, force=True)
    assert len(open_zoo(tmp_path / "zoo", final_only=False)) == 6
    with pytest.raises(WrongUsage, match="the output is the input"):
        import_zoo(tmp_path / "zoo", tmp_path / "zoo", force=True)


def test_a_failed_import_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zoo(tmp_path / "old", runs=3)
    import_zoo(tmp_path / "old", tmp_path / "zoo")
    before = files_in(tmp_path)

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "write_shard", full)
    for out in ("zoo", "another"):
        with pytest.raises(SurroundingsFailed):
            import_zoo(tmp_path / "old", tmp_path / out, force=True)
    assert files_in(tmp_path) == before


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    write_zoo(tmp_path / "old", runs=3)
    for out in ("one", "two"):
        import_zoo(tmp_path / "old", tmp_path / out)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    for name in files_in(tmp_path / "one"):
        one = tmp_path / "one" / name
        assert one.is_dir() or one.read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_link_at_the_output_is_not_followed(tmp_path: Path) -> None:
    write_zoo(tmp_path / "old", runs=2)
    import_zoo(tmp_path / "old", tmp_path / "real")
    os.symlink(tmp_path / "real", tmp_path / "link")
    with pytest.raises(NfnError):
        import_zoo(tmp_path / "old", tmp_path / "link", force=True)
    assert len(open_zoo(tmp_path / "real")) == 2
