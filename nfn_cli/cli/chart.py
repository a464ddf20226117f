"""cli/chart.py: line charts as lists of marks and their place on a page. Knows numbers; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

Point = tuple[float, float]

INK, FAINT, PAPER = "#222222", "#d9d9d9", "#ffffff"
# of the palette of Okabe and Ito, which people with any colour vision tell apart; dots differ in shape as well
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#8c8c8c"

_PLOT = (430.0, 250.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 26.0, 96.0, 58.0
_TEXT = 13.0


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: in the legend.
        values: one for each x; None or what is not finite leaves a gap.
        dot: "round", "square" or "" for none.
    """

    label: str
    colour: str
    values: tuple[float | None, ...]
    dot: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `places` are the x of every value."""

    title: str
    x_label: str
    places: tuple[float, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Stroke:
    points: tuple[Point, ...]
    colour: str
    width: float


@dataclass(frozen=True)
class Dot:
    centre: Point
    shape: str
    colour: str


@dataclass(frozen=True)
class Text:
    """`anchor` is "start", "middle" or "end": which part of the text stands at `place`; the y is that of the baseline."""

    place: Point
    text: str
    anchor: str = "start"
    size: float = _TEXT
    bold: bool = False
    colour: str = INK


@dataclass(frozen=True)
class Box:
    """A rectangle with its upper left corner at `place`; an empty colour is not drawn."""

    place: Point
    size: Point
    fill: str
    edge: str = ""


Mark = Stroke | Dot | Text | Box


@dataclass(frozen=True)
class Page:
    """What is to be drawn, in order; lengths are in pixels from the upper left corner."""

    width: float
    height: float
    marks: tuple[Mark, ...]


def page(rows: Sequence[Sequence[Panel]]) -> Page:
    """Panels in rows."""
    width, height = _PLOT[0] + _LEFT + _RIGHT, _PLOT[1] + _TOP + _BOTTOM
    marks: list[Mark] = []
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            marks += _panel(panel, (column * width + _LEFT, row * height + _TOP))
    return Page(width * max(map(len, rows), default=0), height * len(rows), tuple(marks))


def _panel(panel: Panel, corner: Point) -> list[Mark]:
    values = [v for series in panel.series for v in series.values if v is not None and isfinite(v)]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0))
    low, high = ticks[0], ticks[-1]
    first, last = panel.places[0], panel.places[-1]

    def at(x: float, y: float) -> Point:
        across, up = (x - first) / (last - first), (y - low) / (high - low)
        return corner[0] + across * _PLOT[0], corner[1] + (1 - up) * _PLOT[1]

    marks: list[Mark] = [Text((corner[0], corner[1] - 74), panel.title, size=15.0, bold=True)]
    for tick in ticks:
        marks.append(Stroke((at(first, tick), at(last, tick)), FAINT, 1.0))
        marks.append(Text((corner[0] - 8, at(first, tick)[1] + 4), _number(tick, ticks), "end"))
    for place in nice_ticks(first, last):
        foot = at(place, low)
        marks.append(Stroke((foot, (foot[0], foot[1] + 5)), INK, 1.0))
        marks.append(Text((foot[0], foot[1] + 20), f"{place:g}", "middle"))
    marks.append(Stroke((at(first, low), at(last, low)), INK, 1.0))
    marks.append(Text((corner[0] + _PLOT[0] / 2, corner[1] + _PLOT[1] + 42), panel.x_label, "middle"))
    for number, series in enumerate(panel.series):
        marks += _legend(series, (corner[0], corner[1] - 52 + 18 * number))
        points = [
            at(x, y) if y is not None and isfinite(y) else None
            for x, y in zip(panel.places, series.values, strict=True)
        ]
        marks += [Stroke(run, series.colour, 2.0) for run in _runs(points)]
        marks += [Dot(point, series.dot, series.colour) for point in points if point is not None and series.dot]
    return marks


def _legend(series: Series, place: Point) -> list[Mark]:
    x, y = place
    marks: list[Mark] = [Stroke(((x, y - 4), (x + 26, y - 4)), series.colour, 2.0)]
    if series.dot:
        marks.append(Dot((x + 13, y - 4), series.dot, series.colour))
    return [*marks, Text((x + 34, y), series.label)]


def _runs(points: Sequence[Point | None]) -> list[tuple[Point, ...]]:
    """Stretches without gaps."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [tuple(run) for run in runs if len(run) > 1]


def nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """Round numbers, evenly apart, of which the first is not above `low` and the last not below `high`."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    raw = (high - low) / 5
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = floor(low / step + 1e-9)
    ticks = [first * step]
    while ticks[-1] < high - 1e-9 * step:
        ticks.append((first + len(ticks)) * step)
    return tuple(ticks)


def _number(tick: float, ticks: Sequence[float]) -> str:
    """As short as the distance between ticks allows."""
    size, step = max(abs(ticks[0]), abs(ticks[-1])), ticks[1] - ticks[0]
    if size >= 1e5 or step < 1e-4:
        return f"{tick:.3g}"
    digits = next((d for d in range(6) if abs(round(step, d) - step) < 1e-9 * step), 6)
    return f"{tick:.{digits}f}"
