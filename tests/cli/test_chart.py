"""Charts: round numbers on the axes, gaps where nothing was measured, the same bytes every time."""

from __future__ import annotations

import io
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nfn_cli.cli.chart import BLUE, VERMILION, Dot, Panel, Series, Stroke, Text, nice_ticks, page
from nfn_cli.cli.chart_file import check_chart, png, svg, write_chart
from nfn_cli.errors import SurroundingsFailed, WrongUsage

PLACES = (0.0, 0.5, 1.0)


def panel(*values: float | None, label: str = "aligned", colour: str = BLUE) -> Panel:
    return Panel("loss", "part of B", PLACES, (Series(label, colour, values, "round"),))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2347, 1.67), (-3, 1e6), (1e-9, 3e-9), (5, 5), (0, 0), (-2, -2)])
def test_ticks_are_round_evenly_apart_and_enclose_what_is_shown(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    steps = [b - a for a, b in pairwise(ticks)]
    assert np.allclose(steps, steps[0])
    assert ticks[0] <= low + 1e-12 * abs(low)
    assert ticks[-1] >= high - 1e-12 * abs(high)
    assert 3 <= len(ticks) <= 8
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5)) < 1e-6


def test_what_was_not_measured_is_a_gap() -> None:
    whole = page([[panel(1.0, 2.0, 3.0)]]).marks
    broken = page([[panel(1.0, None, 3.0)]]).marks
    infinite = page([[panel(1.0, float("inf"), 3.0)]]).marks
    assert broken == infinite

    def of_curve(marks: tuple[object, ...], kind: type) -> int:
        return sum(isinstance(mark, kind) and mark.colour == BLUE for mark in marks)  # type: ignore[attr-defined]

    assert [of_curve(marks, Dot) for marks in (whole, broken)] == [4, 3]  # one in the legend
    assert [of_curve(marks, Stroke) for marks in (whole, broken)] == [2, 1]


def test_values_stand_where_their_ticks_say() -> None:
    marks = page([[panel(1.0, 2.0, 3.0)]]).marks
    heights = {mark.text: mark.place[1] for mark in marks if isinstance(mark, Text) and mark.anchor == "end"}
    dots = [mark.centre for mark in marks if isinstance(mark, Dot)][1:]
    for value, (_, height) in zip(("1.0", "2.0", "3.0"), dots, strict=True):
        assert heights[value] == pytest.approx(height + 4)  # a baseline is below the middle of its digits


def test_nothing_measured_at_all_is_still_a_chart() -> None:
    empty = page([[panel(None, None, None)]])
    assert ElementTree.fromstring(svg(empty)).tag.endswith("svg")
    assert page([]).marks == ()


def test_an_svg_is_plain_text_that_says_what_is_drawn() -> None:
    drawn = page([[panel(1.0, 2.0, 3.0, label="a < b & c"), panel(0.1, 0.2, 0.3, colour=VERMILION)]])
    root = ElementTree.fromstring(svg(drawn))
    assert "a < b & c" in [element.text for element in root]
    assert svg(drawn) == svg(drawn)
    assert float(root.attrib["width"]) == drawn.width


def test_a_png_shows_the_colours_of_its_curves() -> None:
    drawn = page([[panel(1.0, 2.0, 3.0), panel(0.1, 0.2, 0.3)], [panel(1.0, 1.0, 1.0)]])
    content = png(drawn)
    assert content == png(drawn)
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (drawn.width, drawn.height)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (0x00, 0x72, 0xB2) in colours
    assert (0xD5, 0x5E, 0x00) not in colours  # negative control: no such curve
    assert (255, 255, 255) in colours


def test_files_are_not_overwritten_and_other_kinds_not_written(tmp_path: Path) -> None:
    drawn, path = page([[panel(1.0, 2.0, 3.0)]]), tmp_path / "a.svg"
    write_chart(drawn, path, force=False)
    with pytest.raises(WrongUsage, match="exists"):
        write_chart(drawn, path, force=False)
    write_chart(drawn, path, force=True)
    with pytest.raises(WrongUsage, match=r"\.png or an \.svg"):
        check_chart(tmp_path / "a.pdf", False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.svg"]


def test_without_pillow_a_png_names_the_extra_and_an_svg_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    drawn = page([[panel(1.0, 2.0, 3.0)]])
    with pytest.raises(SurroundingsFailed, match=r"nfn-cli\[images\]"):
        check_chart(tmp_path / "a.png", False)
    write_chart(drawn, tmp_path / "a.svg", force=False)
    assert (tmp_path / "a.svg").read_text() == svg(drawn)
