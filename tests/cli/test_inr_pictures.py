"""nfn fit-inr, nfn zoo fit-inrs, nfn render: pictures into weights and back, by the installed command."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from .running import RELU, nfn

Image = pytest.importorskip("PIL.Image")


def _picture(path: Path, height: int = 12, width: int = 10, colour: bool = False, seed: int = 0) -> Path:
    rows, columns = np.mgrid[0:height, 0:width]
    grey = np.uint8(20 * rows + 3 * columns + 10 * seed)
    Image.fromarray(np.stack([grey, grey // 2, 255 - grey], -1) if colour else grey).save(path)
    return path


def _schema(name: str) -> dict[str, object]:
    return dict(json.loads((files("nfn_cli") / "schemas" / f"{name}.json").read_text()))


def test_a_picture_goes_into_weights_and_comes_back(tmp_path: Path) -> None:
    picture, inr, png = _picture(tmp_path / "a.png"), tmp_path / "a.safetensors", tmp_path / "back.png"
    run = nfn("fit-inr", picture, "-o", inr, "--steps", 400, "--json")
    assert (run.code, run.err) == (0, "")
    (answer,) = run.json()
    jsonschema.validate(answer, _schema("fit-inr"))
    assert (answer["height"], answer["width"], answer["channels"], answer["fitted_now"]) == (12, 10, 1, True)
    assert answer["psnr"] > 40
    with safe_open(inr, "np") as opened:
        assert (opened.metadata()["activation"], opened.metadata()["omega"]) == ("sin", "30,30")
    run = nfn("render", inr, "-o", png, "--json")
    assert (run.code, run.err) == (0, "")
    jsonschema.validate(run.json()[0], _schema("render"))
    before, after = (np.asarray(Image.open(each), np.float64) for each in (picture, png))
    assert before.shape == after.shape
    measured = 20 * np.log10(255) - 10 * np.log10(((before - after) ** 2).mean())
    assert measured > 38
    assert "D∞ ≀ S_32" in nfn("symmetry-report", inr).out


def test_grey_values_of_16_bits_are_not_cut_to_8(tmp_path: Path) -> None:
    deep = np.uint16(30000 + np.arange(12 * 10).reshape(12, 10))  # all of them one value of 8 bits
    Image.fromarray(deep).save(tmp_path / "a.png")
    inr = tmp_path / "a.safetensors"
    run = nfn("fit-inr", tmp_path / "a.png", "-o", inr, "--steps", 400, "--json")
    assert (run.code, run.err) == (0, "")
    shown = nfn("render", inr, "-o", tmp_path / "b.png", "--json").json()[0]
    assert (shown["lowest"], shown["highest"]) == pytest.approx((30000 / 65535, 30119 / 65535), abs=0.01)
    from nfn_cli.zoo.pictures import read_picture

    assert np.array_equal(read_picture(tmp_path / "a.png")[..., 0], deep)
    assert read_picture(tmp_path / "a.png", grey=False).shape == (12, 10, 3)
    assert read_picture(tmp_path / "a.png", longest=6).shape == (6, 5, 1)
    Image.fromarray(np.float32(deep)).save(tmp_path / "f.tiff")
    assert nfn("fit-inr", tmp_path / "f.tiff", "-o", tmp_path / "f.safetensors").code == 3


def test_every_member_of_the_orbit_shows_the_same_picture(tmp_path: Path) -> None:
    inr, moved = tmp_path / "a.safetensors", tmp_path / "moved.safetensors"
    nfn("fit-inr", _picture(tmp_path / "a.png", colour=True), "-o", inr, "--steps", 60)
    assert nfn("act", inr, "-o", moved, "--random", "--seed", 5).code == 0
    assert not np.allclose(load_file(inr)["layers.0.bias"], load_file(moved)["layers.0.bias"])
    for file in (inr, moved):
        assert nfn("render", file, "-o", file.with_suffix(".shown.png")).code == 0
    first, second = (np.asarray(Image.open(f.with_suffix(".shown.png")), int) for f in (inr, moved))
    assert first.shape == (12, 10, 3)
    assert np.abs(first - second).max() <= 1


def test_a_folder_that_was_begun_is_continued_and_depends_on_nothing_beside(tmp_path: Path) -> None:
    pictures = [_picture(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    out, alone = tmp_path / "inrs", tmp_path / "alone.safetensors"
    assert nfn("fit-inr", *pictures[:2], "-o", out, "--steps", 40).code == 0
    first = (out / "0.safetensors").read_bytes()
    run = nfn("fit-inr", "-", "-o", out, "--steps", 40, "--json", stdin="\n".join(map(str, pictures)))
    assert [line["fitted_now"] for line in run.json()] == [False, False, True]
    assert (out / "0.safetensors").read_bytes() == first
    assert nfn("fit-inr", pictures[2], "-o", alone, "--steps", 40).code == 0
    assert alone.read_bytes() == (out / "2.safetensors").read_bytes()
    other = nfn("fit-inr", *pictures, "-o", out, "--steps", 41)
    assert other.code == 2
    assert "the output exists" in other.err
    assert (out / "0.safetensors").read_bytes() == first


def test_what_is_no_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    good = _picture(tmp_path / "good.png")
    run = nfn("fit-inr", text, good, tmp_path / "missing.png", "-o", tmp_path / "out", "--steps", 5, "--json")
    assert run.code == 4
    codes = [line.get("error", {}).get("code") for line in run.json()]
    assert codes == ["bad-picture", None, "no-such-file"]
    for line in run.json():
        jsonschema.validate(line, _schema("fit-inr"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.safetensors"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hidden", "0"], "widths"),
        (["--omega", "30,30,30"], "ω"),
        (["--coordinates", "1,1"], "coordinates"),
        (["--range", "3,3"], "range"),
        (["--learning-rate", "0"], "learning-rate"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    run = nfn("fit-inr", _picture(tmp_path / "a.png"), "-o", tmp_path / "o.safetensors", *options)
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert words in run.err
    assert not (tmp_path / "o.safetensors").exists()


def test_a_picture_is_not_written_under_the_name_of_another_kind(tmp_path: Path) -> None:
    run = nfn("render", tmp_path / "any.safetensors", "-o", tmp_path / "x.svg")
    assert run.code == 2
    assert "the picture is a PNG" in run.err
    assert not (tmp_path / "x.svg").exists()


def test_what_is_no_inr_is_not_drawn(tmp_path: Path) -> None:
    wide, broken, png = tmp_path / "wide.safetensors", tmp_path / "nan.safetensors", tmp_path / "o.png"
    weights = {"layers.0.weight": np.ones((4, 2), np.float32), "layers.1.weight": np.ones((5, 4), np.float32)}
    save_file(weights, wide)
    save_file({**weights, "layers.1.weight": np.full((1, 4), np.nan, np.float32)}, broken)
    told = ["--activation", "sin", "--omega", "30"]
    run = nfn("render", wide, broken, RELU, "-o", png, *told, "--json")
    assert run.code == 3
    codes = [line["error"]["code"] for line in run.json()]
    assert codes[:2] == ["not-an-inr", "non-finite-weights"]
    assert not png.exists()
    silent = nfn("render", wide, "-o", png)
    assert silent.code == 3
    assert "--activation" in silent.err


def test_an_image_set_becomes_a_zoo_that_is_continued_and_drawn(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 6, 6), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images[:6], y_train=np.arange(6), x_test=images[6:], y_test=np.arange(3))
    zoo = tmp_path / "zoo"
    command = ["zoo", "fit-inrs", "--dataset", tmp_path / "set.npz", "-o", zoo, "--steps", 20, "--json"]
    run = nfn(*command, "--train", 4)
    assert (run.code, run.err) == (0, "")
    jsonschema.validate(run.json()[0], _schema("zoo-fit-inrs"))
    assert (run.json()[0]["networks"], run.json()[0]["fitted_now"]) == (7, 7)
    assert nfn(*command, "--train", 4).json()[0]["fitted_now"] == 0
    other = nfn(*command, "--train", 5)
    assert (other.code, other.json()[0]["error"]["code"]) == (2, "output-exists")
    assert nfn("render", f"{zoo}#0", f"{zoo}#6", "-o", tmp_path / "grid.png", "--size", "6").code == 0
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape == (6, 13)
