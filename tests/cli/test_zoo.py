"""`nfn zoo import|info|split` as a user meets them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.zoo.test_checkpoint_folder import folder_of_mlps
from tests.zoo.test_hostile_store import damage
from tests.zoo.test_store import two_families
from tests.zoo.tiny_zoo import write_zoo

from .running import nfn
from .test_commands import check_schema


def test_info_tells_rows_runs_families_columns_and_split(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo", runs=20)
    run = nfn("zoo", "info", tmp_path / "zoo", "--json")
    assert (run.code, run.err) == (0, "")
    (line,) = run.json()
    check_schema("zoo-info", line)
    assert (line["rows"], line["final_rows"], line["runs"], line["form"]) == (40, 20, 20, "small-cnn-zoo")
    assert line["families"][0]["network"] == "2 conv + 1 linear, 1-4-3-2, relu"
    columns = {column["name"]: column for column in line["columns"]}
    assert columns["step"]["range"] == [1, 2]
    assert columns["config.activation"]["values"] == ["relu"]
    assert line["split"]["train"]["runs"] + line["split"]["test"]["runs"] == 20
    shown = nfn("zoo", "info", tmp_path / "zoo")
    assert max(map(len, shown.out.splitlines()[1:])) <= 80
    assert "2 conv + 1 linear, 1-4-3-2, relu" in shown.out


def test_import_answers_and_its_rows_are_inputs(tmp_path: Path) -> None:
    folder_of_mlps(tmp_path / "runs")
    with open(tmp_path / "runs" / "scores.csv", "a") as file:
        file.write("../evil.st,relu,1\n")
    run = nfn("zoo", "import", tmp_path / "runs", "-o", tmp_path / "zoo", "--score", "score", "--json")
    assert run.code == 0
    assert run.err.startswith("note: left out ../evil.st: does not name a file below")
    (line,) = run.json()
    check_schema("zoo-import", line)
    assert (line["rows"], len(line["families"]), line["left_out"][0]["code"]) == (4, 3, "bad-path")
    reports = nfn("symmetry-report", f"{tmp_path / 'zoo'}#0", f"{tmp_path / 'zoo'}#3", "--json").json()
    assert [report["networks"][0]["activation"] for report in reports] == [["relu"], ["tanh"]]
    out = tmp_path / "canonical.safetensors"
    assert nfn("canonicalize", f"{tmp_path / 'zoo'}#3", "-o", out).code == 0
    assert nfn("symmetry-report", out, "--json").json()[0]["networks"][0]["activation"] == ["tanh"]
    again = nfn("zoo", "import", tmp_path / "runs", "-o", tmp_path / "zoo", "--json")
    assert (again.code, again.json()[0]["error"]["code"]) == (2, "output-exists")
    check_schema("zoo-import", again.json()[0])
    assert nfn("zoo", "import", tmp_path / "runs", "-o", tmp_path / "zoo", "--force").code == 0


def test_a_split_is_by_run_and_survives_another_form(tmp_path: Path) -> None:
    write_zoo(tmp_path / "old", runs=30)
    assert nfn("zoo", "import", tmp_path / "old", "-o", tmp_path / "new", "--all").code == 0
    sides = []
    for zoo in ("old", "new"):
        out = tmp_path / f"{zoo}.csv"
        run = nfn("zoo", "split", tmp_path / zoo, "--all", "--test-fraction", 0.3, "--seed", 1, "-o", out, "--json")
        check_schema("zoo-split", run.json()[0])
        with open(out) as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 60
        sides.append({(line["run"], line["split"]) for line in lines})
        assert sum(line["split"] == "test" for line in lines) == run.json()[0]["test"]["rows"]
    assert sides[0] == sides[1]
    assert len(sides[0]) == 30  # one side a run
    taken = nfn("zoo", "split", tmp_path / "old", "-o", tmp_path / "old.csv")
    assert (taken.code, taken.out) == (2, "")


@pytest.mark.parametrize("kind", ["rows", "header"])
def test_a_zoo_that_lies_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    two_families(tmp_path)
    damage(tmp_path, kind)
    run = nfn("zoo", "split", tmp_path, "--json")
    assert run.code == 3
    assert run.err.count("\n") == 1
    assert run.err[:-1].isprintable()
    (line,) = run.json()
    check_schema("zoo-split", line)
    assert line["error"]["code"] == "bad-table"


def test_what_is_not_there_or_not_a_zoo_says_so(tmp_path: Path) -> None:
    assert nfn("zoo", "info", tmp_path / "none").code == 4
    run = nfn("zoo", "info", tmp_path)
    assert run.code == 3
    assert "zoo.json" in run.err
    two_families(tmp_path / "zoo")
    (tmp_path / "zoo" / "shards" / "a-0.csv").unlink()
    assert nfn("zoo", "info", tmp_path / "zoo").code == 4
    assert nfn("zoo", "split", tmp_path / "zoo", "--test-fraction", 2).code == 2


def test_help_has_examples() -> None:
    run = nfn("zoo", "import", "--help")
    assert run.code == 0
    assert "nfn zoo import runs/scores.csv -o zoo" in run.out
