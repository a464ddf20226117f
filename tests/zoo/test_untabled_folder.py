"""A folder of SIRENs without a table becomes a zoo where the user says that they are SIRENs, and how they show images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nfn_cli.api import load, render_inr
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph import NameOptions
from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo.import_zoo import import_zoo
from nfn_cli.zoo.inr_stated import Stated, stated
from nfn_cli.zoo.open_zoo import open_zoo

from ..cli.running import nfn

SIREN = NameOptions(activation="sin", omega="30,10")


def sirens(folder: Path) -> Path:
    """Layers as of siren-pytorch, two classes; beside them what is no network, and a network of another kind."""
    torch.manual_seed(0)
    widths = (2, 8, 8, 1)
    for name in ("cats/a.pth", "dogs/deep/b.pt", "dogs/c.ckpt"):
        tensors = {}
        for layer, module in enumerate(("layers.0", "layers.1", "last_layer")):
            tensors[f"{module}.weight"] = torch.randn(widths[layer + 1], widths[layer]) / 5
            tensors[f"{module}.bias"] = torch.randn(widths[layer + 1]) / 5
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": tensors, "epoch": 3} if name.endswith("ckpt") else tensors, folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "broken.pth").write_text("nothing either")
    return folder


def test_a_folder_of_sirens_becomes_rows_that_show_what_the_files_show(tmp_path: Path) -> None:
    folder, said = sirens(tmp_path / "sirens"), Stated((6, 7), Coordinates(0, 1, "column-row"), (-1.0, 1.0))
    done = import_zoo(folder, tmp_path / "zoo", stated=SIREN, cells=said.as_metadata())
    assert done.rows == 3
    assert [each.path for each in done.left_out] == ["broken.pth"]
    columns = open_zoo(tmp_path / "zoo").columns
    assert columns["path"].tolist() == ["cats/a.pth", "dogs/c.ckpt", "dogs/deep/b.pt"]
    assert columns["folder"].tolist() == ["cats", "dogs", "dogs/deep"]
    for row, path in enumerate(columns["path"]):
        assert stated(load(f"{tmp_path / 'zoo'}#{row}")) == said
        shown = render_inr(f"{tmp_path / 'zoo'}#{row}")
        given = render_inr(folder / path, SIREN, size=said.size, coordinates=said.coordinates, pixels=said.pixels)
        assert np.array_equal(shown.picture, given.picture)
        other = render_inr(folder / path, NameOptions(activation="sin", omega="30"), size=(6, 7), pixels=(-1, 1))
        assert not np.array_equal(shown.picture, other.picture)


def test_without_a_word_about_them_files_are_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no zoo"):
        open_zoo(sirens(tmp_path / "sirens"))


def test_nothing_is_stated_about_networks_that_say_it_themselves(tmp_path: Path) -> None:
    import_zoo(sirens(tmp_path / "sirens"), tmp_path / "zoo", stated=SIREN)
    with pytest.raises(WrongUsage, match="say themselves"):
        open_zoo(tmp_path / "zoo", stated=SIREN)


def test_a_table_goes_before_what_is_stated_about_all(tmp_path: Path) -> None:
    folder = sirens(tmp_path / "sirens")
    (folder / "table.csv").write_text("path,config.omega,low,high\ncats/a.pth,20,0,1\ndogs/c.ckpt,,,\n")
    cells = {"low": "-1", "high": "1"}
    import_zoo(folder, tmp_path / "zoo", stated=SIREN, cells=cells)
    zoo = open_zoo(tmp_path / "zoo")
    omegas = [[op.attributes["omega"] for op in zoo.network(row).graph.ops if op.kind == "pointwise"] for row in (0, 1)]
    assert omegas == [[20, 20], [30, 10]]
    assert [stated(load(f"{tmp_path / 'zoo'}#{row}")).pixels for row in (0, 1)] == [(0, 1), (-1, 1)]


def test_the_command_takes_them_all(tmp_path: Path) -> None:
    folder, out = sirens(tmp_path / "sirens"), tmp_path / "zoo"
    told = ["--omega", "30,10", "--coordinates", "0,1,column-row", "--range", "-1,1", "--size", "6x7"]
    run = nfn("zoo", "import", folder, "-o", out, *told, "--json")
    assert run.code == 0
    assert json.loads(run.out)["rows"] == 3
    assert "broken.pth" in run.err
    assert stated(load(f"{out}#0")) == Stated((6, 7), Coordinates(0, 1, "column-row"), (-1.0, 1.0))
    bad = nfn("zoo", "import", folder, "-o", tmp_path / "o", "--omega", "x")
    assert bad.code in (2, 3)
    assert len(bad.err.splitlines()) == 1
    assert not (tmp_path / "o").exists()
