"""The picture of a network and its page: every unit set is in it, names stay text, and a browser agrees."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from nfn_cli.api import Model, symmetry_report
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.cli.chart_file import png, svg
from nfn_cli.cli.network_picture.colours import DEAD, set_colour
from nfn_cli.cli.network_picture.drawing import picture
from nfn_cli.cli.network_picture.drawn_report import drawn
from nfn_cli.cli.network_picture.html_page import Answered, Failed, html_page
from nfn_cli.cli.network_picture.lanes import lanes
from nfn_cli.cli.network_picture.layer_rows import layer_rows, merged
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry import networks
from .browser import CHROMIUM, browser
from .running import RELU, TANH, nfn

HOSTILE = "<script>document.title='taken'</script>\"'&\x1b[31m\u202e<img src=x onerror=alert(1)>"


def model(made: tuple[Network, networks.Tensors]) -> Model:
    return Model(Checkpoint("model.safetensors", "safetensors", made[1]), (made[0],))


def hostile_file(folder: Path) -> Path:
    path = folder / "hostile.safetensors"
    generator = np.random.default_rng(0)
    first = generator.standard_normal((6, 4))
    last = generator.standard_normal((3, 6))
    last[:, 2] = 0  # unit 2 is dead
    save_file({f"{HOSTILE}1.weight": first, f"{HOSTILE}2.weight": last}, path, {"activation": "relu"})
    return path


@pytest.mark.parametrize("kind", ["residual", "concatenation", "cnn", "depthwise", "autoencoder", "grouped"])
def test_every_unit_set_is_drawn_once_with_its_group_and_colour(kind: str) -> None:
    opened = model(getattr(networks, kind)(0, "relu"))
    report = symmetry_report(opened)
    found = drawn(opened, report)
    makes = [number for row in found[0].rows for number in row.makes]
    assert sorted(makes) == list(range(len(report.networks[0].unit_sets)))
    root = ElementTree.fromstring(svg(picture(report, found)))
    texts = " ".join(element.text or "" for element in root)
    fills = {element.get("fill") for element in root}
    for number, unit_set in enumerate(report.networks[0].unit_sets):
        assert unit_set.group in texts
        assert set_colour(number) in fills
    assert set_colour(99) not in fills  # negative control


def test_a_residual_sum_reads_two_rows_and_a_concatenation_has_the_colours_of_its_parts() -> None:
    network, tensors = networks.residual(0, "relu")
    rows = layer_rows(network, 0, find_symmetry([network]), {})
    assert any(row.title == "+" and len(row.reads) == 2 for row in rows)
    network, tensors = networks.concatenation(0, "relu")
    joined = next(row for row in layer_rows(network, 0, find_symmetry([network]), {}) if row.title == "concat")
    assert len({number for number, _ in joined.outgoing}) == 2
    assert tensors


def test_what_is_not_understood_is_a_hatched_row_with_its_reason() -> None:
    builder = networks.Builder(0, [GraphInput("x", (None, 5))])
    x = builder.act(builder.linear("x", "first", 8, 5), "relu")
    x = builder.op("opaque", [x], shape=(None, 8), reason="zeta has no rule")
    x = builder.op("sort", [builder.linear(x, "second", 9, 8)], shape=(None, 9))
    opened = model(builder.network(builder.linear(x, "third", 2, 9), family="mlp"))
    report = symmetry_report(opened)
    found = drawn(opened, report)
    assert {row.title: row.frozen for row in found[0].rows if row.frozen} == {
        "opaque": "zeta has no rule",
        "sort": "not understood",
    }
    shown = svg(picture(report, found))
    assert "frozen: zeta has no rule" in shown
    plain = model(networks.mlp(0, "relu"))
    assert not any(row.frozen for row in drawn(plain, symmetry_report(plain))[0].rows)


def test_segments_are_joined_and_never_lose_a_slot() -> None:
    many = tuple((n % 7, 1) for n in range(700))
    assert sum(length for _, length in merged(many)) == 700
    assert len(merged(many)) == 7
    assert merged(((1, 2), (1, 3), (2, 1))) == ((1, 5), (2, 1))


def test_lanes_that_run_beside_each_other_have_different_places() -> None:
    found = lanes([(), (0,), (1,), (2, 0), (3, 1), (4,), (5, 3)])
    assert {(lane.start, lane.readers) for lane in found} == {(0, (3,)), (1, (4,)), (3, (6,))}
    for one in found:
        for other in found:
            alive = one.start < max(other.readers) and other.start < max(one.readers)
            assert one is other or not alive or one.place != other.place
    assert lanes([(), (0,), (1,)]) == ()


def test_the_same_network_gives_the_same_bytes_and_a_png_that_opens(tmp_path: Path) -> None:
    opened = model(networks.residual(0, "relu"))
    pages = [picture(report, drawn(opened, report)) for report in (symmetry_report(opened), symmetry_report(opened))]
    assert svg(pages[0]) == svg(pages[1])
    assert png(pages[0]) == png(pages[1])
    with Image.open(io.BytesIO(png(pages[0]))) as image:
        assert image.size == (round(pages[0].width), round(pages[0].height))
        assert tuple(int(set_colour(0)[i : i + 2], 16) for i in (1, 3, 5)) in {
            colour for _, colour in image.convert("RGB").getcolors(1 << 20)
        }


def test_hostile_names_stay_text_in_an_svg(tmp_path: Path) -> None:
    path, plot = hostile_file(tmp_path), tmp_path / "out.svg"
    run = nfn("symmetry-report", path, "--plot", plot)
    assert (run.code, run.err) == (0, "")
    root = ElementTree.fromstring(plot.read_text())
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "rect", "text", "polyline", "circle"}
    assert DEAD in {element.get("fill") for element in root}
    assert "\x1b" not in plot.read_text()
    assert "\u202e" not in plot.read_text()


def test_files_are_not_overwritten_and_wrong_ones_are_refused_before_work(tmp_path: Path) -> None:
    plot, page = tmp_path / "a.svg", tmp_path / "a.html"
    assert nfn("symmetry-report", RELU, "--plot", plot, "--html", page).code == 0
    before = plot.read_bytes(), page.read_bytes()
    run = nfn("symmetry-report", RELU, "--html", page)
    assert (run.code, run.out) == (2, "")
    assert "--force" in run.err
    assert nfn("symmetry-report", RELU, "--plot", plot, "--html", page, "--force").code == 0
    assert (plot.read_bytes(), page.read_bytes()) == before
    several = nfn("symmetry-report", RELU, TANH, "--plot", tmp_path / "b.svg")
    assert several.code == 2
    assert "--html" in several.err
    assert nfn("symmetry-report", RELU, "--plot", tmp_path / "b.pdf").code == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.html", "a.svg"]


def test_a_refused_checkpoint_has_its_reason_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    run = nfn("symmetry-report", tmp_path / "no.pt", RELU, "--html", page, "--json")
    assert run.code == 4
    assert "no report" in page.read_text()
    assert "R&gt;0^16 ⋊ S_16" in page.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_shows_the_page_without_complaints_requests_or_overflow(tmp_path: Path) -> None:
    page, bad = tmp_path / "page.html", tmp_path / "bad.html"
    run = nfn("symmetry-report", RELU, hostile_file(tmp_path), tmp_path / "no.pt", "--html", page)
    assert run.code == 4
    opened = model(networks.residual(0, "relu"))
    report = symmetry_report(opened)
    wide = tmp_path / "wide.html"
    wide.write_text(html_page([Answered(report, drawn(opened, report)), Failed(HOSTILE * 5, HOSTILE)]))
    # negative control: what the questions below would say of a page that is not as it should be
    bad.write_text("<body><div style='width:3000px'>a</div><img src='file:///no'><script>console.log(1)</script>")
    with browser(tmp_path / "profile") as found:
        for path in (page, wide):
            for width in (1280, 480):
                found.open(path, width)
                assert found.requests() == [path.as_uri()]
                assert found.complaints() == []
                assert found.ask("document.documentElement.scrollWidth") <= width
                assert found.ask("document.title").startswith("Symmetry report of")
                assert found.ask("document.querySelectorAll('script, img, iframe, link').length") == 0
        sets = found.ask("document.querySelectorAll('tbody tr').length")
        assert sets == len(report.networks[0].unit_sets)
        found.open(page, 1280)
        text = found.ask("document.body.innerText")
        assert "dead (nothing reads them): 2" in text
        assert "<script>" in text
        assert (
            found.ask("getComputedStyle(document.querySelector('dl')).display") == "grid"
        )  # the policy lets styles in
        found.open(bad, 480)
        assert len(found.requests()) > 1
        assert found.complaints()
        assert found.ask("document.documentElement.scrollWidth") > 480
