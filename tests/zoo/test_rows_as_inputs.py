"""`DIR#row` is an input like any file: with its own graph, written out with it, and refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nfn_cli.api import load, open_model, save, symmetry_report
from nfn_cli.errors import Refused
from nfn_cli.graph.graph_file import graph_to_json
from nfn_cli.zoo.store import create_zoo, write_shard
from tests.zoo.small_graphs import mlp_graph, random_stack
from tests.zoo.test_store import RELU, two_families
from tests.zoo.tiny_zoo import write_zoo


def test_a_row_is_analysed_with_the_graph_of_its_shard(tmp_path: Path) -> None:
    written = two_families(tmp_path)
    report = symmetry_report(f"{tmp_path}#5").as_json()
    assert report["networks"][0]["activation"] == ["tanh"]
    assert report["check"]["passed"] is True
    assert np.array_equal(load(f"{tmp_path}#5").tensors["fc2.weight"], written["b-0"]["fc2.weight"][1])
    assert open_model(f"{tmp_path}#7").networks[0].graph == RELU


def test_a_row_written_out_keeps_its_graph_whatever_its_tensors_are_called(tmp_path: Path) -> None:
    graph = mlp_graph((3, 4, 2), "tanh")
    prefixed = json.loads(json.dumps(graph_to_json(graph)).replace("fc", "module.fc"))
    from nfn_cli.graph.graph_file import graph_from_json

    create_zoo(tmp_path / "zoo", "")
    graph = graph_from_json(prefixed)
    stack = random_stack(graph, 3)
    write_shard(tmp_path / "zoo", "s", graph, stack, {"run": ["0", "1", "2"]})
    save(load(f"{tmp_path / 'zoo'}#1"), tmp_path / "row.safetensors")
    alone = open_model(tmp_path / "row.safetensors")
    assert set(alone.checkpoint.tensors) == {"fc0.weight", "fc0.bias", "fc1.weight", "fc1.bias"}  # no prefix left
    assert alone.networks[0].activation == ("tanh",)
    assert np.array_equal(load_file(tmp_path / "row.safetensors")["module.fc0.weight"], stack["module.fc0.weight"][1])
    assert symmetry_report(alone).passed


def test_strides_of_the_small_cnn_zoo_reach_the_graph_and_the_file_written_from_it(tmp_path: Path) -> None:
    def convolution(source: str | Path) -> dict[str, object]:
        return dict(open_model(source).networks[0].graph.ops[0].attributes)

    write_zoo(tmp_path / "ours", runs=2)
    write_zoo(tmp_path / "published", runs=2, run_column="modeldir")
    write_zoo(tmp_path / "told", runs=2)
    (tmp_path / "told" / "architecture.json").write_text('{"stride": 1, "padding": 3}')
    steps = {"ours": (2, 1), "published": (2, 0), "told": (1, 3)}
    for name, (stride, padding) in steps.items():
        save(load(f"{tmp_path / name}#1"), tmp_path / f"{name}.safetensors")
        for source in (f"{tmp_path / name}#1", tmp_path / f"{name}.safetensors"):
            expected = {"out_axis": 3, "in_axis": 2, "stride": [stride] * 2, "padding": [padding] * 2}
            assert convolution(source) == expected
    (tmp_path / "told" / "architecture.json").write_text('{"stride": 0, "padding": "same"}')
    with pytest.raises(Refused, match=r"architecture\.json"):
        load(f"{tmp_path / 'told'}#1")


def test_rows_that_are_not_there_and_folders_without_a_row_are_refused(tmp_path: Path) -> None:
    two_families(tmp_path)
    with pytest.raises(Refused, match="rows are 0 to 10"):
        load(f"{tmp_path}#11")
    with pytest.raises(Refused, match="name one row"):
        load(tmp_path)
    (tmp_path / "zoo.json").write_text('{"schema": "nfn.zoo/9"}')
    with pytest.raises(Refused, match=r"nfn\.zoo/9"):
        load(f"{tmp_path}#1")


def _lie(values: dict, kind: str) -> dict:
    op = values["ops"][0]
    if kind == "shape":
        values["tensors"]["fc0.weight"] = [5, 4]
    elif kind == "missing":
        values["tensors"]["fc9.weight"] = [1]
    elif kind == "order":
        values["ops"] = values["ops"][::-1]
    elif kind == "axis":
        op[4]["out_axis"] = 7
    elif kind == "type":
        op[4]["in_axis"] = "1"
    elif kind == "activation":
        values["ops"][1][4]["function"] = "eval"
    elif kind == "huge":
        values["inputs"][0][1] = [None, 1 << 30]
    elif kind == "output":
        values["outputs"] = ["nowhere"]
    elif kind == "role":
        op[3] = {"bias": "fc0.bias"}
    return values


@pytest.mark.parametrize(
    "kind", ["shape", "missing", "order", "axis", "type", "activation", "huge", "output", "role", "not-json", "nested"]
)
def test_a_stored_graph_that_lies_is_refused(tmp_path: Path, kind: str) -> None:
    text = json.dumps(_lie(json.loads(json.dumps(graph_to_json(RELU))), kind))
    text = {"not-json": "{", "nested": "[" * 100_000}.get(kind, text)
    one = {name: array[0] for name, array in random_stack(RELU, 1).items()}
    save_file(one, tmp_path / "lie.safetensors", metadata={"nfn.graph": text})
    with pytest.raises(Refused, match=r"nfn\.graph"):
        open_model(tmp_path / "lie.safetensors")
    save_file(one, tmp_path / "truth.safetensors", metadata={"nfn.graph": json.dumps(graph_to_json(RELU))})
    assert open_model(tmp_path / "truth.safetensors").networks[0].graph == RELU
