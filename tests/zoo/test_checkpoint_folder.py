"""A folder of checkpoints with a table of scores is a zoo; what cannot be a row is named with the reason."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli.errors import Refused
from nfn_cli.zoo.open_zoo import open_zoo
from tests.zoo.small_graphs import mlp_graph, random_stack


def write_table(folder: Path, lines: list[dict[str, object]], name: str = "scores.csv") -> None:
    with open(folder / name, "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def folder_of_mlps(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Files a, b (one shape, relu), c (another), t (tanh, in a folder of its own, as .npz)."""
    (folder / "deep").mkdir(parents=True)
    written, lines = {}, []
    for seed, (path, widths, activation) in enumerate(
        (
            ("a.st", (3, 5, 2), "relu"),
            ("b.st", (3, 5, 2), "relu"),
            ("c.st", (3, 4, 2), ""),
            ("deep/t.npz", (3, 5, 2), "tanh"),
        )
    ):
        stack = random_stack(mlp_graph(widths), 1, seed)
        written[path] = {name: array[0] for name, array in stack.items()}
        if path.endswith(".st"):
            save_file(written[path], folder / path, metadata={"activation": "relu"} if path == "c.st" else None)
        else:
            np.savez(folder / path, **written[path])
        lines.append({"path": path, "config.activation": activation, "score": 0.1 * seed})
    write_table(folder, lines)
    return written


def test_checkpoints_of_one_graph_are_a_family_and_keep_their_scores(tmp_path: Path) -> None:
    written = folder_of_mlps(tmp_path)
    zoo = open_zoo(tmp_path)
    paths = [zoo.columns["path"][family.rows].tolist() for family in zoo.families]
    assert paths == [["a.st", "b.st"], ["c.st"], ["deep/t.npz"]]
    assert np.allclose(zoo.numbers("score"), [0, 0.1, 0.2, 0.3])
    both = zoo.families[0].tensors(rows=[1, 0])
    for name in both:
        assert np.array_equal(both[name], np.stack([written["b.st"][name], written["a.st"][name]]))
    assert zoo.network(3).activation == ("tanh",)
    assert np.array_equal(zoo.checkpoint(2).tensors["fc0.bias"], written["c.st"]["fc0.bias"])
    assert zoo.left_out == ()
    assert open_zoo(tmp_path / "scores.csv", activation="tanh").columns["path"].tolist() == ["deep/t.npz"]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("../a.st", "bad-path"),
        ("/etc/passwd", "bad-path"),
        ("deep/../a.st", "bad-path"),
        ("C:\\a.st", "bad-path"),
        ("hf://owner/repo/file", "bad-path"),
        ("a\x1b[31m.st", "bad-path"),
        ("", "bad-path"),
        ("missing.st", "no-such-file"),
        ("text.st", "not-a-checkpoint"),
        ("silent.st", "activation-unknown"),
    ],
)
def test_what_cannot_be_a_row_is_left_out_with_its_reason(tmp_path: Path, cell: str, code: str) -> None:
    written = folder_of_mlps(tmp_path)
    (tmp_path / "text.st").write_text("not weights, only words of text")
    save_file(written["a.st"], tmp_path / "silent.st")
    lines = [{"path": cell, "config.activation": ""}, {"path": "a.st", "config.activation": "relu"}]
    write_table(tmp_path, lines)
    zoo = open_zoo(tmp_path)
    assert zoo.columns["path"].tolist() == ["a.st"]
    assert zoo.sources.tolist() == [1]
    (left,) = zoo.left_out
    assert left.code == code
    assert left.reason
    assert left.path.isprintable()
    if code == "activation-unknown":
        assert "config.activation" in left.reason
    write_table(tmp_path, lines[:1])
    with pytest.raises(Refused, match="not one of 1 checkpoints"):
        open_zoo(tmp_path)


def test_a_folder_with_two_tables_asks_for_one_and_one_without_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no zoo"):
        open_zoo(tmp_path)
    folder_of_mlps(tmp_path / "z")
    write_table(tmp_path / "z", [{"path": "a.st", "config.activation": "relu"}], "others.csv")
    with pytest.raises(Refused, match="name the CSV"):
        open_zoo(tmp_path / "z")
    assert len(open_zoo(tmp_path / "z" / "others.csv")) == 1
    write_table(tmp_path / "z", [{"file": "a.st"}], "others.csv")
    assert len(open_zoo(tmp_path / "z")) == 4


def test_steps_tell_the_last_checkpoint_of_each_run(tmp_path: Path) -> None:
    folder_of_mlps(tmp_path)
    write_table(
        tmp_path,
        [
            {"path": path, "config.activation": "relu", "run": run, "step": step}
            for path, run, step in (("a.st", "x", 10), ("b.st", "x", 20), ("c.st", "y", 5))
        ],
    )
    assert open_zoo(tmp_path).columns["path"].tolist() == ["b.st", "c.st"]
    assert len(open_zoo(tmp_path, final_only=False)) == 3
