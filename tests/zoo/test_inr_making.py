"""Zoos of INRs: every image once, its label and split kept, the same bytes whoever stopped in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nfn_cli.checkpoint.zoo_shard import read_description
from nfn_cli.networks.inr import Coordinates, render
from nfn_cli.zoo.images import ImageData, ImageSet
from nfn_cli.zoo.inr_making import InrPlan, make_inr_zoo
from nfn_cli.zoo.open_zoo import open_zoo


def _data() -> ImageData:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (14, 5, 6, 1), np.uint8)
    images = np.repeat(np.repeat(images[:, :2, :2], 3, 1), 3, 2)[:, :5, :6]  # blocks, which are quickly fitted
    labels = np.arange(14) % 3
    return ImageData("blocks", ImageSet(images[:10], labels[:10]), ImageSet(images[10:], labels[10:]))


PLAN = InrPlan(seed=3, hidden=(8, 8), steps=60, group_size=5)


def test_every_image_is_there_once_with_its_label_and_split(tmp_path: Path) -> None:
    data = _data()
    assert make_inr_zoo(tmp_path / "zoo", PLAN, data) == (14, 14)
    zoo = open_zoo(tmp_path / "zoo")
    table = {name: zoo.columns[name] for name in ("split", "index", "label", "run")}
    rows = list(zip(table["split"], map(int, table["index"]), map(int, table["label"]), strict=True))
    expected = {("train", i, int(data.train.labels[i])) for i in range(10)}
    expected |= {("test", i, int(data.test.labels[i])) for i in range(4)}
    assert len(rows) == 14
    assert set(rows) == expected
    assert len(set(table["run"])) == 14


def test_what_a_row_says_of_its_psnr_range_and_coordinates_is_so(tmp_path: Path) -> None:
    data = _data()
    make_inr_zoo(tmp_path / "zoo", PLAN, data)
    zoo = open_zoo(tmp_path / "zoo")
    columns = {n: zoo.columns[n] for n in ("split", "index", "low", "high", "psnr", "centred")}
    seen = 0
    for family in zoo.families:
        tensors = family.tensors()
        for position, row in enumerate(family.rows):
            stacked = {n: torch.from_numpy(np.array(a[position : position + 1])) for n, a in tensors.items()}
            centred = columns["centred"][row] == "true"
            shown = render(family.graph, stacked, 5, 6, Coordinates(centred=centred))[0].numpy()
            part = data.test if columns["split"][row] == "test" else data.train
            low, high = float(columns["low"][row]), float(columns["high"][row])
            target = low + (high - low) * part.images[int(columns["index"][row])] / 255
            psnr = 20 * np.log10(high - low) - 10 * np.log10(((shown - target) ** 2).mean())
            assert abs(psnr - float(columns["psnr"][row])) < 0.05
            seen += 1
    assert seen == 14


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make_inr_zoo(whole, PLAN, _data())
    make_inr_zoo(stopped, PLAN, _data(), groups=1)
    (stopped / "shards" / "group-000001.csv").write_text("half a table")
    assert make_inr_zoo(stopped, PLAN, _data(), threads=2) == (14, 9)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((whole / name).read_bytes() == (stopped / name).read_bytes() for name in files)
    other = tmp_path / "other"
    make_inr_zoo(other, InrPlan(seed=4, hidden=(8, 8), steps=60, group_size=5), _data())
    assert any((whole / name).read_bytes() != (other / name).read_bytes() for name in files if name.parent.name)


def test_alike_are_fits_that_differ_in_nothing_but_their_image_and_their_start(tmp_path: Path) -> None:
    told = ("low", "high", "centred", "config.omega", "config.initialization", "config.learning_rate", "steps")
    kinds = {}
    for alike in (True, False):
        folder = tmp_path / str(alike)
        make_inr_zoo(folder, replace(PLAN, alike=alike), _data())
        columns = open_zoo(folder).columns
        kinds[alike] = set(zip(*(columns[name].tolist() for name in told), strict=True))
    assert kinds[True] == {("-1.0", "1.0", "false", "30.0", "siren", "0.005", "60")}
    assert len(kinds[False]) > 3
    assert "alike" not in read_description(tmp_path / "False")["making"]  # as zoos said before there was a choice
