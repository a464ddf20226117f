"""Our own form of a zoo comes back as it was written, one row at a time, and is never half there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.errors import NfnError, Refused, WrongUsage
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.store import create_zoo, shard_names, write_shard
from tests.zoo.small_graphs import mlp_graph, random_stack

RELU, TANH = mlp_graph(), mlp_graph((3, 4, 4, 2), "tanh")


def two_families(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Shards a-0 (4 rows, relu), b-0 (3 rows, tanh), c-0 (4 rows, relu); two steps a run."""
    create_zoo(folder, "a toy")
    written = {}
    for name, graph, rows in (("a-0", RELU, 4), ("b-0", TANH, 3), ("c-0", RELU, 4)):
        written[name] = random_stack(graph, rows, seed=len(written))
        columns = {
            "run": [f"{name}/{row // 2}" for row in range(rows)],
            "step": np.arange(rows) % 2 * 10,
            "laststep": [10] * rows,
            "test_accuracy": np.linspace(0.1, 0.9, rows),
        }
        write_shard(folder, name, graph, written[name], columns)
    return written


def test_tensors_and_columns_come_back_family_by_family(tmp_path: Path) -> None:
    written = two_families(tmp_path)
    zoo = open_zoo(tmp_path, final_only=False)
    assert len(zoo) == 11
    assert [family.rows.tolist() for family in zoo.families] == [[0, 1, 2, 3, 7, 8, 9, 10], [4, 5, 6]]
    relu, tanh = zoo.families
    for name in RELU.parameter_shapes:
        expected = np.concatenate([written["a-0"][name], written["c-0"][name]])
        assert np.array_equal(relu.tensors()[name], expected)
        assert np.array_equal(relu.tensors(rows=[5, 0, 5])[name], expected[[5, 0, 5]])
    assert np.array_equal(tanh.tensors(["fc1.bias"])["fc1.bias"], written["b-0"]["fc1.bias"])
    assert zoo.numbers("test_accuracy")[[0, 4, 10]].tolist() == [0.1, 0.1, 0.9]
    assert zoo.columns["run"].tolist()[3:5] == ["a-0/1", "b-0/0"]


def test_final_rows_and_selections_keep_rows_and_tensors_together(tmp_path: Path) -> None:
    written = two_families(tmp_path)
    final = open_zoo(tmp_path)
    assert final.sources.tolist() == [1, 3, 5, 8, 10]
    picked = final.where(np.array([4, 2, 0]))
    assert picked.columns["run"].tolist() == ["c-0/1", "b-0/0", "a-0/0"]
    for row, (shard, place) in enumerate((("c-0", 3), ("b-0", 1), ("a-0", 1))):
        for name, array in picked.checkpoint(row).tensors.items():
            assert np.array_equal(array, written[shard][name][place])
    assert open_zoo(tmp_path, activation="tanh").sources.tolist() == [5]
    with pytest.raises(WrongUsage, match=r"relu, tanh"):
        open_zoo(tmp_path, activation="gelu")


def test_a_network_knows_its_graph(tmp_path: Path) -> None:
    two_families(tmp_path)
    zoo = open_zoo(tmp_path, final_only=False)
    network = zoo.network(4)
    assert (network.activation, network.family) == (("tanh",), "mlp")
    assert network.graph == TANH
    assert set(zoo.checkpoint(4).tensors) == set(network.graph.parameter_shapes)


def test_a_shard_is_there_only_with_its_tensors_and_is_not_replaced_unasked(tmp_path: Path) -> None:
    two_families(tmp_path)
    (tmp_path / "shards" / "b-0.safetensors").unlink()  # as if stopped after the table
    assert shard_names(tmp_path) == ["a-0", "c-0"]
    assert len(open_zoo(tmp_path, final_only=False)) == 8
    again = random_stack(TANH, 2)
    write_shard(tmp_path, "b-0", TANH, again, {"run": ["x", "y"]})
    assert len(open_zoo(tmp_path, final_only=False)) == 10
    with pytest.raises(WrongUsage, match="exists"):
        write_shard(tmp_path, "b-0", TANH, again, {"run": ["x", "y"]})
    write_shard(tmp_path, "b-0", TANH, random_stack(TANH, 3), {"run": ["x", "y", "z"]}, force=True)
    assert len(open_zoo(tmp_path, final_only=False)) == 11


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        two_families(tmp_path / folder)
    files = [sorted(p.relative_to(tmp_path / f) for p in (tmp_path / f).rglob("*.*")) for f in ("one", "two")]
    assert files[0] == files[1]
    for file in files[0]:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_numbers_survive_the_table_exactly_and_missing_ones_are_nan(tmp_path: Path) -> None:
    create_zoo(tmp_path, "numbers")
    values = np.array([0.1, np.nan, 1e-300, np.float32(1 / 3)])
    columns = {"value": values, "word": ['a,"b"', "é", "", "x" * 200], "flag": [True, False, True, None]}
    write_shard(tmp_path, "s", RELU, random_stack(RELU, 4), columns)
    zoo = open_zoo(tmp_path)
    assert np.array_equal(zoo.numbers("value"), values, equal_nan=True)
    assert zoo.columns["word"].tolist() == columns["word"]
    assert zoo.columns["flag"].tolist() == ["true", "false", "true", ""]
    with pytest.raises(Refused, match="no number"):
        zoo.numbers("word")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a\nb", "x" * 200])
def test_a_shard_name_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    create_zoo(tmp_path, "")
    with pytest.raises(Refused, match="cannot be called"):
        write_shard(tmp_path, name, RELU, random_stack(RELU, 1), {"run": ["1"]})
    assert list((tmp_path / "shards").iterdir()) == []


def test_what_does_not_fit_together_is_not_written(tmp_path: Path) -> None:
    create_zoo(tmp_path, "")
    good = random_stack(RELU, 2)
    for graph, tensors, columns in (
        (RELU, good, {"run": ["1"]}),
        (RELU, {**good, "fc0.bias": good["fc0.bias"][:1]}, {"run": ["1", "2"]}),
        (RELU, {name: array for name, array in good.items() if name != "fc1.bias"}, {"run": ["1", "2"]}),
        (TANH, good, {"run": ["1", "2"]}),
        (RELU, good, {"run": ["1", "2\n3"]}),
        (RELU, good, {"ru\x1bn": ["1", "2"]}),
    ):
        with pytest.raises(NfnError):
            write_shard(tmp_path, "s", graph, tensors, columns)
        assert shard_names(tmp_path) == []


def test_another_zoo_is_not_taken_over(tmp_path: Path) -> None:
    assert create_zoo(tmp_path / "z", "one", seed=3) == create_zoo(tmp_path / "z", "one", seed=3)
    with pytest.raises(WrongUsage, match="another zoo"):
        create_zoo(tmp_path / "z", "two")
    assert json.loads((tmp_path / "z" / "zoo.json").read_text())["schema"] == "nfn.zoo/1"
