"""A zoo in shards that lies about itself is refused with a reason, and never read wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.zoo.open_zoo import open_zoo
from tests.zoo.test_store import two_families

DAMAGES = {
    "schema": r"nfn\.zoo/2",
    "json": "description of a zoo",
    "not-a-map": "description of a zoo",
    "cut": "cut short",
    "rows": "5 lines for 4 networks",
    "cells": "different length",
    "number": "'zero', which is no number",
    "header": "control characters",
    "twice": "twice",
    "bytes": "not a CSV",
    "graph": "stored graph",
    "stacked": "same number of rows",
    "no-shards": "no shard yet",
    "shards-a-file": "no folder",
}


def damage(folder: Path, kind: str) -> None:
    """Make the zoo of `two_families` wrong in one way."""
    shard, table = folder / "shards" / "a-0.safetensors", folder / "shards" / "a-0.csv"
    if kind == "schema":
        (folder / "zoo.json").write_text(json.dumps({"schema": "nfn.zoo/2"}))
    elif kind == "json":
        (folder / "zoo.json").write_text("[" * 50_000)
    elif kind == "not-a-map":
        (folder / "zoo.json").write_text("[1]")
    elif kind == "cut":
        shard.write_bytes(shard.read_bytes()[:-5])
    elif kind == "rows":
        table.write_text(table.read_text() + "a-0/9,10,10,0.5\n")
    elif kind == "cells":
        table.write_text(table.read_text().replace("a-0/0,0,10,", "a-0/0,0,"))
    elif kind == "number":
        table.write_text(table.read_text().replace("a-0/0,0,10,", "a-0/0,zero,10,"))
    elif kind == "header":
        table.write_text(table.read_text().replace("run,", "r\x1bun,"))
    elif kind == "twice":
        table.write_text(table.read_text().replace("run,step", "step,step"))
    elif kind == "bytes":
        table.write_bytes(table.read_bytes().replace(b"a-0/0", b"\xff\xfe/0"))
    elif kind == "graph":
        shard.write_bytes(shard.read_bytes().replace(b'\\"fc0.weight\\":[5,3]', b'\\"fc0.weight\\":[3,5]'))
    elif kind == "stacked":  # 4 × 5 × 3 numbers told as 5 × 4 × 3
        shard.write_bytes(shard.read_bytes().replace(b"[4,5,3]", b"[5,4,3]"))
    elif kind == "no-shards":
        shutil.rmtree(folder / "shards")
    elif kind == "shards-a-file":
        shutil.rmtree(folder / "shards")
        (folder / "shards").write_text("")


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_zoo_that_lies_is_refused(tmp_path: Path, kind: str) -> None:
    two_families(tmp_path)
    assert len(open_zoo(tmp_path)) == 5  # the control: as written it opens
    damage(tmp_path, kind)
    with pytest.raises(Refused, match=DAMAGES[kind]) as refused:
        open_zoo(tmp_path).runs  # noqa: B018
    assert refused.value.code != "refused"
    assert str(tmp_path) in str(refused.value)


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    two_families(tmp_path)
    (tmp_path / "shards" / "c-0.csv").unlink()
    with pytest.raises(SurroundingsFailed, match=r"c-0\.csv"):
        open_zoo(tmp_path)


def test_files_that_are_no_shards_are_passed_over(tmp_path: Path) -> None:
    two_families(tmp_path)
    for name in (".a-0.safetensors.12-ab.tmp", "..safetensors", "notes.txt"):
        (tmp_path / "shards" / name).write_text("not a shard")
    assert len(open_zoo(tmp_path)) == 5


@pytest.mark.parametrize("name", ["a b.safetensors", "a\nb.safetensors"])
def test_a_shard_of_an_unfit_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    two_families(tmp_path)
    (tmp_path / "shards" / "a-0.safetensors").rename(tmp_path / "shards" / name)
    with pytest.raises(Refused, match="cannot be called") as refused:
        open_zoo(tmp_path)
    assert str(refused.value).isprintable()
