"""Opening a zoo costs its headers, reading a row costs the row."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import table_file
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.store import create_zoo, write_shard
from tests.zoo.small_graphs import mlp_graph

ROWS = 120_000
GRAPH = mlp_graph((8, 16, 10))  # 314 parameters, 1.3 kB a row


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    create_zoo(folder, "many rows")
    half = ROWS // 2
    for name in ("a", "b"):
        tensors = {n: np.ones((half, *shape), np.float32) for n, shape in GRAPH.parameter_shapes.items()}
        tensors["fc1.bias"] *= np.arange(half, dtype=np.float32)[:, None]
        columns = {
            "run": np.char.add(name, (np.arange(half) // 2).astype(str)),
            "step": np.arange(half) % 2,
            "laststep": np.ones(half, dtype=int),
            "test_accuracy": np.linspace(0, 1, half),
            "config.note": ["a remark of some length that is the same in every row"] * half,
        }
        write_shard(folder, name, GRAPH, tensors, columns)
    return folder


def test_opening_a_hundred_thousand_rows_allocates_a_few_bytes_a_row(large: Path) -> None:
    size = sum(path.stat().st_size for path in large.rglob("*.safetensors"))
    assert size > 1000 * ROWS
    tracemalloc.start()
    zoo = open_zoo(large, final_only=False)
    row = zoo.checkpoint(ROWS - 1)
    value = float(row.tensors["fc1.bias"][0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(zoo), value) == (ROWS, ROWS // 2 - 1)
    assert peak < 60 * ROWS  # numbers of rows, families and places: 8 bytes each
    tracemalloc.start()
    copied = zoo.families[0].tensors(["fc0.weight"], rows=np.arange(0, ROWS, 2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak > copied["fc0.weight"].nbytes > 60 * ROWS // 2  # the control: reading tensors is seen


def test_a_row_and_a_run_of_rows_are_views_of_the_file(large: Path) -> None:
    zoo = open_zoo(large, final_only=False)
    for array in (
        *zoo.checkpoint(70_000).tensors.values(),
        *zoo.families[0].tensors(rows=slice(10, 50_000)).values(),
    ):
        assert not array.flags.owndata
        assert not array.flags.writeable
    assert zoo.families[0].tensors(["fc0.bias"], rows=[0, ROWS - 1])["fc0.bias"].flags.owndata  # two shards: a copy


def test_only_the_columns_asked_for_are_kept(large: Path) -> None:
    columns = Columns((table_file(large / "shards" / "a.csv"),))
    tracemalloc.start()
    assert columns.numbers("test_accuracy")[-1] == 1.0
    kept, peak = tracemalloc.get_traced_memory()
    assert len(set(columns["config.note"].tolist())) == 1
    with_text, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 12 * ROWS // 2
    assert peak < 60_000_000  # some ten thousand lines as Python strings at a time
    assert with_text < kept + 12 * ROWS // 2  # long words are shared


def test_a_process_that_takes_one_row_stays_small(large: Path) -> None:
    code = (
        "import resource, sys\n"
        "from nfn_cli.checkpoint import load\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"row = load(r'{large}#{ROWS - 2}')\n"
        "assert row.tensors['fc0.weight'].sum() == 128\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 20_000  # kB; the file has 150 MB


def test_a_short_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("name\n" + "x\n" * 50_000 + "y" * 100_000 + "\n")  # as fixed width: 20 GB
    tracemalloc.start()
    names = Columns((table_file(table),))["name"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert names[-1] == "y" * 100_000
    assert peak < 30_000_000
