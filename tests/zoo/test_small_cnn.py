"""A zoo folder is read as it was written, and folders that do not fit together are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage
from nfn_cli.zoo import read_zoo
from tests.zoo.tiny_zoo import write_zoo


def test_kernels_come_out_in_torch_order(tmp_path: Path) -> None:
    written = write_zoo(tmp_path, runs=3)
    weights, biases = read_zoo(tmp_path, final_only=False).chains()
    start = 4 + 36 + 3  # biases before kernels: bias 4, kernel 3·3·1·4, bias 3
    for row in range(6):
        for h in range(3):
            for w in range(3):
                for i in range(4):
                    for o in range(3):
                        column = start + ((h * 3 + w) * 4 + i) * 3 + o
                        assert weights[1][row, o, i, h * 3 + w] == written[row, column]
    assert np.array_equal(biases[0], written[:, :4])


def test_only_the_last_step_of_each_run_is_final(tmp_path: Path) -> None:
    write_zoo(tmp_path, runs=5)
    final = read_zoo(tmp_path)
    assert sorted(final.runs.tolist()) == [f"r{i}" for i in range(5)]
    assert set(final.numbers("step")) == {2.0}
    assert len(read_zoo(tmp_path, final_only=False)) == 10


def test_the_published_zoo_names_runs_by_their_folder(tmp_path: Path) -> None:
    write_zoo(tmp_path, runs=4, run_column="modeldir")
    assert len(set(read_zoo(tmp_path, final_only=False).runs.tolist())) == 4


def test_an_activation_that_no_row_has_is_named_with_the_known_ones(tmp_path: Path) -> None:
    write_zoo(tmp_path, runs=2)
    assert len(read_zoo(tmp_path, activation="relu")) == 2
    with pytest.raises(WrongUsage, match="relu"):
        read_zoo(tmp_path, activation="tanh")


def test_files_of_two_zoos_are_refused(tmp_path: Path) -> None:
    written = write_zoo(tmp_path, runs=2)
    np.save(tmp_path / "weights.npy", written[:-1])
    with pytest.raises(Refused, match=r"weights\.npy"):
        read_zoo(tmp_path)
    np.save(tmp_path / "weights.npy", written[:, :-1])
    with pytest.raises(Refused, match="columns"):
        read_zoo(tmp_path)


@pytest.mark.parametrize("missing", ["weights.npy", "layout.csv", "metrics.csv.gz"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_zoo(tmp_path, runs=2)
    (tmp_path / missing).unlink()
    with pytest.raises(SurroundingsFailed, match=missing.removesuffix(".gz")):
        read_zoo(tmp_path)
