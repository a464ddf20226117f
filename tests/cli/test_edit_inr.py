"""nfn edit-inr: the picture is edited, the file stays what it is, previews, refusals, several inputs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from nfn_cli.api import act, open_model, random_element, render_inr

from .running import RELU, nfn

SCHEMA = json.loads((files("nfn_cli") / "schemas" / "edit-inr.json").read_text())
METADATA = {"height": "12", "width": "10", "coordinates": "0,1,row-column,centred", "range": "-1,1", "by": "me"}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has not been trained: it follows the operator itself."""
    from nfn_cli.networks.inr_edit import EditorShape, InrEditor
    from nfn_cli.predictors.inr_edit import write_editor
    from nfn_cli.predictors.inr_edit_card import EditorCard

    folder = tmp_path_factory.mktemp("editor")
    shape = EditorShape("dilate")
    card = EditorCard("tiny", "dilate", "the largest of 3 × 3.", shape.as_json(), 1, {"description": ""}, {}, {}, "")
    write_editor(folder, card, InrEditor(shape))
    return folder


def siren(path: Path, channels: int = 1, metadata: dict[str, str] | None = METADATA, seed: int = 0) -> Path:
    from nfn_cli.graph.graph_file import GRAPH_KEY
    from nfn_cli.graph.stored_graph import graph_to_text
    from nfn_cli.zoo.sine_network import SineNetwork

    network = SineNetwork((2, 24, 24, channels), (30.0, 30.0))
    flat = network.initial(np.array(["siren"]), np.random.default_rng(seed))
    flat[:, -25 * channels :] *= 6  # the last layer: before a fit pictures are pale
    tensors = {name: np.ascontiguousarray(tensor[0]) for name, tensor in network.tensors(flat).items()}
    told = {} if metadata is None else {**metadata, GRAPH_KEY: graph_to_text(network.graph())}
    save_file(tensors, path, metadata=told or None)
    return path


def test_the_picture_is_edited_and_the_file_stays_what_it_is(tmp_path: Path, editor: Path) -> None:
    given, out = siren(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    raw = given.read_bytes()
    run = nfn("edit-inr", given, "--style", "dilate", "--predictor", editor, "-o", out, "--json")
    assert (run.code, run.err) == (0, "")
    (answer,) = run.json()
    jsonschema.validate(answer, SCHEMA)
    assert (answer["height"], answer["width"], answer["range"]) == (12, 10, [-1, 1])
    assert answer["mse_before"] > 1e-3
    assert answer["mse_to_target"] < 0.2 * answer["mse_before"]
    assert given.read_bytes() == raw
    before, after = load_file(given), load_file(out)
    assert [(n, t.dtype, t.shape) for n, t in before.items()] == [(n, t.dtype, t.shape) for n, t in after.items()]
    with safe_open(given, "numpy") as one, safe_open(out, "numpy") as other:
        assert one.metadata() == other.metadata()
    shown = [render_inr(file) for file in (given, out)]
    assert shown[1].lowest > shown[0].lowest  # a dilated picture has lost its darkest points
    again = tmp_path / "again.safetensors"
    assert nfn("edit-inr", given, "--predictor", editor, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()


def test_moved_by_the_group_and_edited_is_edited_and_moved(tmp_path: Path, editor: Path) -> None:
    given, moved = siren(tmp_path / "a.safetensors"), tmp_path / "m.safetensors"
    model = open_model(given)
    g = random_element(model, seed=4)
    save_file(
        {n: np.ascontiguousarray(t) for n, t in act(g, model).tensors.items()}, moved, dict(model.checkpoint.metadata)
    )
    assert nfn("edit-inr", given, moved, "--predictor", editor, "-o", tmp_path / "out").code == 0
    there = act(g, tmp_path / "out" / "a.safetensors").tensors
    found = load_file(tmp_path / "out" / "m.safetensors")
    assert max(float(np.abs(found[name] - there[name]).max()) for name in found) < 1e-4
    assert max(float(np.abs(found[name] - load_file(given)[name]).max()) for name in found) > 1e-2


def test_previews_show_before_after_and_target(tmp_path: Path, editor: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    one = siren(tmp_path / "a.safetensors")
    other = siren(tmp_path / "b.safetensors", 3, METADATA | {"height": "10"}, seed=1)
    out, picture = tmp_path / "out", tmp_path / "p.png"
    run = nfn("edit-inr", one, other, "--predictor", editor, "-o", out, "--preview", picture, "--json")
    assert run.code == 0
    assert sorted(file.name for file in out.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert [answer["channels"] for answer in run.json()] == [1, 3]
    shown = np.asarray(image.open(picture))
    assert shown.shape == (2 * 120 + 2, 364, 3)  # both enlarged: 12 × 10 tenfold, 10 × 10 twelvefold
    tiles = [shown[:120, start : start + 100].astype(float) for start in (0, 102, 204)]
    apart = [float(np.abs(tiles[2] - tile).mean()) for tile in tiles[:2]]
    assert apart[1] < 0.5 * apart[0]
    refused = nfn("edit-inr", one, "--predictor", editor, "-o", tmp_path / "c.safetensors", "--preview", picture)
    assert (refused.code, (tmp_path / "c.safetensors").exists()) == (2, False)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, editor: Path) -> None:
    given, out = siren(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    out.write_bytes(b"mine")
    assert nfn("edit-inr", given, "--predictor", editor, "-o", out).code == 2
    assert out.read_bytes() == b"mine"
    assert nfn("edit-inr", given, "--predictor", editor, "-o", given, "--force").code == 2
    assert nfn("edit-inr", given, "--predictor", editor, "-o", out, "--force").code == 0
    assert "layers.0.weight" in load_file(out)


def test_what_cannot_be_edited_is_refused_with_the_reason(tmp_path: Path, editor: Path) -> None:
    wide, bad, relu = (tmp_path / f"{name}.safetensors" for name in ("wide", "bad", "relu"))
    siren(wide, 2)
    tensors = load_file(siren(bad))
    tensors["layers.1.bias"][3] = np.nan
    save_file(tensors, bad, {})
    siren(relu, 1, None)
    out = tmp_path / "out"
    run = nfn("edit-inr", wide, RELU, "--predictor", editor, "-o", out, "--json")
    assert (run.code, [line["error"]["code"] for line in run.json()]) == (3, ["not-an-inr"] * 2)
    run = nfn("edit-inr", bad, "--activation", "sin", "--omega", 30, "--predictor", editor, "-o", out / "x", "--json")
    assert (run.code, run.json()[0]["error"]["code"]) == (3, "non-finite-weights")
    run = nfn("edit-inr", relu, "--activation", "relu", "--predictor", editor, "-o", out / "x", "--json")
    assert (run.code, run.json()[0]["error"]["code"]) == (3, "not-sines")
    jsonschema.validate(run.json()[0], SCHEMA)
    assert list(out.iterdir()) == []


def test_a_file_that_says_nothing_is_edited_at_the_usual_size_with_a_note(tmp_path: Path, editor: Path) -> None:
    given = siren(tmp_path / "a.safetensors", 1, None)
    how = ("--activation", "sin", "--omega", 30, "--predictor", editor)
    run = nfn("edit-inr", given, *how, "-o", tmp_path / "b.safetensors", "--json")
    assert (run.code, run.json()[0]["height"]) == (0, 28)
    assert "does not say its size" in run.err
    run = nfn("edit-inr", given, *how, "--size", "9x11", "--range", "-2,2", "-o", tmp_path / "c.safetensors", "--json")
    assert (run.json()[0]["height"], run.json()[0]["width"], run.json()[0]["range"]) == (9, 11, [-2, 2])


def test_styles_and_editors_are_named_where_they_are_not_known(tmp_path: Path, editor: Path) -> None:
    given, out = siren(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    for options, words in (
        (("--style", "paint"), "dilate, erode, contrast"),
        (("--style", "erode", "--predictor", editor), "trained to dilate"),
    ):
        run = nfn("edit-inr", given, *options, "-o", out)
        assert (run.code, words in run.err) == (2, True)
    assert not out.exists()
