"""What a zoo's columns, or the tensors of a published form, say of an INR is what render, edit-inr and classify-inr go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.api import edit_inr, load, render_inr, save
from nfn_cli.graph import NameOptions
from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo.inr_stated import Stated, stated
from nfn_cli.zoo.sine_network import SineNetwork
from nfn_cli.zoo.store import create_zoo, write_shard

NETWORK = SineNetwork((2, 9, 9, 1), (30.0, 30.0))
SAID: dict[str, list[Any]] = {
    "height": [8, 6],
    "width": [5, 7],
    "low": [-1, -2.5],
    "high": [1, 0.5],
    "centred": [True, False],
}


def zoo(folder: Path, columns: dict[str, Any]) -> Path:
    """Two shards of two rows each."""
    create_zoo(folder, "INRs")
    for shard in range(2):
        flat = NETWORK.initial(np.array(["wide", "siren"]), np.random.default_rng(shard))
        tensors = {
            name: tensor * (1 + 3 * name.startswith("layers.2")) for name, tensor in NETWORK.tensors(flat).items()
        }
        write_shard(
            folder, f"group-{shard}", NETWORK.graph(), tensors, {"number": [2 * shard, 2 * shard + 1], **columns}
        )
    return folder


@pytest.mark.parametrize("row", range(4))
def test_a_row_is_drawn_as_its_zoo_says(tmp_path: Path, row: int) -> None:
    folder = zoo(tmp_path / "zoo", SAID)
    height, width, low, high, centred = (values[row % 2] for values in SAID.values())
    told = render_inr(f"{folder}#{row}")
    given = render_inr(
        f"{folder}#{row}", size=(height, width), coordinates=Coordinates(centred=centred), pixels=(low, high)
    )
    assert np.array_equal(told.picture, given.picture)
    assert (told.low, told.high) == (low, high)
    silent = render_inr(f"{zoo(tmp_path / 'silent', {})}#{row}", size=(height, width))
    assert not np.array_equal(told.picture, silent.picture)


def test_what_the_user_says_goes_before_what_the_zoo_says(tmp_path: Path) -> None:
    row = f"{zoo(tmp_path / 'zoo', SAID)}#0"
    assert render_inr(row, size=(3, 4), pixels=(0, 2)).picture.shape == (3, 4, 1)
    assert render_inr(row, pixels=(0, 2)).high == 2


def test_coordinates_are_stated_in_one_column_or_in_two(tmp_path: Path) -> None:
    texts = ["0,1,column-row,centred", "2,2,column-row"]
    one = zoo(tmp_path / "one", {"coordinates": texts})
    assert stated(load(f"{one}#2")).coordinates == Coordinates(0, 1, "column-row", True)
    assert stated(load(f"{one}#3")) == Stated()  # ends that are one point are no coordinates
    two = zoo(tmp_path / "two", {"order": ["column-row", "row-column"]})
    assert stated(load(f"{two}#0")).coordinates == Coordinates(order="column-row")


def test_an_edited_row_is_a_file_that_says_what_its_zoo_said(tmp_path: Path) -> None:
    row, out = f"{zoo(tmp_path / 'zoo', SAID)}#2", tmp_path / "edited.safetensors"
    edited = edit_inr(row, "inr-edit-dilate")
    save(edited.checkpoint, out)
    assert stated(load(out)) == stated(load(row)) == Stated((8, 5), Coordinates(centred=True), (-1.0, 1.0))
    assert np.abs(render_inr(out).picture.astype(int) - edited.after).max() <= 1
    assert edited.mse_to_target < edited.mse_before


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (("seq.0", "seq.1", "seq.2"), Stated((28, 28), Coordinates(order="column-row"), (-0.5, 0.5))),
        (("net.0.linear", "net.1.linear", "net.2"), Stated((28, 28), Coordinates(), (-1.0, 1.0))),
        (("seq.0", "seq.1", "seq.3"), Stated()),
    ],
)
def test_the_tensors_of_published_networks_say_how_these_are_run(
    tmp_path: Path, modules: tuple[str, ...], said: Stated
) -> None:
    widths, file = (2, 32, 32, 1), tmp_path / "model_final.pth"
    torch.manual_seed(0)
    tensors = {f"{m}.weight": torch.randn(widths[i + 1], widths[i]) / 40 for i, m in enumerate(modules)}
    tensors |= {f"{m}.bias": torch.randn(widths[i + 1]) / 40 for i, m in enumerate(modules)}
    torch.save(tensors, file)
    assert stated(load(file)) == said
    shown = render_inr(file, NameOptions(activation="sin", omega="30"))
    assert shown.picture.shape == ((28, 28, 1) if said.size else (128, 128, 1))
