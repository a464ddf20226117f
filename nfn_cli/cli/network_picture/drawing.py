"""cli/network_picture/drawing.py: rows of a network on a page: boxes, unit sets in colours, what skips rows. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nfn_cli.cli.chart import FAINT, INK, Box, Mark, Page, Point, Stroke, Text
from nfn_cli.cli.network_picture.colours import CONSTANT, DEAD, DUPLICATE, FIXED, ratio_colour, set_colour
from nfn_cli.cli.network_picture.lanes import Lane, lanes
from nfn_cli.cli.network_picture.layer_rows import Row, Segments
from nfn_cli.cli.render import check_sentence
from nfn_cli.printable import printable
from nfn_cli.symmetry.report import NetworkReport, Report, UnitSetReport

_PITCH, _HEIGHT = 40.0, 32.0
_BOX, _BAR, _LABEL, _MARGIN, _STRIP = 440.0, 92.0, 400.0, 18.0, 150.0
_SMALL = 11.0
_ROWS = 48  # in a column, where there is more than one
_MUTED = "#5a5a5a"


@dataclass(frozen=True)
class Drawn:
    """One network: its report, its rows, and unit sets by their number in the checkpoint."""

    report: NetworkReport
    rows: Sequence[Row]
    sets: dict[int, UnitSetReport]


def picture(report: Report, networks: Sequence[Drawn], *, columns: bool = True, heading: bool = True) -> Page:
    """A checkpoint: heading, each network's rows in columns of equal length (or one), key of the marks."""
    marks: list[Mark] = []
    y, width = _MARGIN, _MARGIN * 2 + 640.0
    for line, size in _heading(report) if heading else ():
        y += size + 7
        marks.append(Text((_MARGIN, y), line, size=size, bold=size > 13))
        width = max(width, 2 * _MARGIN + 0.62 * size * len(line))
    for network in networks:
        y += 14
        part, extent = _network(network, (_MARGIN, y), columns)
        marks += part
        y, width = y + extent[1], max(width, 2 * _MARGIN + extent[0])
    marks += _key((_MARGIN, y + 24))
    return Page(width, y + 70, tuple(marks))


def _heading(report: Report) -> list[tuple[str, float]]:
    answer = report.as_json()
    parameters, effective = answer["parameters"], answer["effective_parameters"]
    lines = [(printable(report.path, 90), 16.0)]
    totals = (
        f"{parameters:,} parameters, {effective:,} effective, continuous dimension {answer['continuous_dimension']:,}"
    )
    lines.append((f"{totals}, discrete order 10^{answer['log10_group_order']:.1f}", 13.0))
    return [*lines, (verdict(report.passed, answer["check"]), 13.0)]


def verdict(passed: bool, check: dict[str, object]) -> str:
    """What the numerical check found, in a sentence; `passed` is whether that of everything else passed too."""
    return "check: FAILED, please report this" if check["passed"] is None and not passed else check_sentence(check)


def _network(network: Drawn, corner: Point, columns: bool) -> tuple[list[Mark], Point]:
    rows, said = network.rows, network.report
    name = f"{said.name}: " if said.name else ""
    title = f"{name}{said.family.upper()}, {', '.join(said.activation) or 'no activation'}"
    marks: list[Mark] = [Text((corner[0], corner[1] + 16), printable(title, 90), size=14.0, bold=True)]
    beside = lanes([row.reads for row in rows])
    places = 1 + max((lane.place for lane in beside), default=-1)
    step = min(9.0, 170.0 / max(1, places))
    rail = places * step + (12 if places else 0)
    wide = rail + _BOX + 14 + _LABEL
    count = -(-len(rows) // _ROWS) if columns else 1
    each = -(-len(rows) // max(1, count)) if rows else 1
    top = corner[1] + 30
    for column in range(count):
        span = range(column * each, min(len(rows), (column + 1) * each))
        left = corner[0] + column * (wide + 30)
        marks += _rail(beside, span, (left, top), step, rail)
        for number in span:
            place = left + rail, top + (number - span.start) * _PITCH
            marks += _row(rows[number], place, network.sets)
            if number - 1 in rows[number].reads and number != span.start:
                x = place[0] + _BOX / 2
                marks.append(Stroke(((x, place[1] - (_PITCH - _HEIGHT)), (x, place[1])), _MUTED, 1.5))
    bottom = 30 + each * _PITCH
    for line in said.opaque[:12]:
        bottom += 16
        marks.append(Text((corner[0], corner[1] + bottom), f"frozen: {printable(line, 120)}", size=12.0))
    if len(said.opaque) > 12:
        bottom += 16
        marks.append(Text((corner[0], corner[1] + bottom), f"frozen: {len(said.opaque) - 12} more", size=12.0))
    return marks, (count * (wide + 30) - 30, bottom + 8)


def _rail(beside: Sequence[Lane], span: range, corner: Point, step: float, rail: float) -> list[Mark]:
    """Lanes in one column; those that go on in the next run out of the column's end."""
    marks: list[Mark] = []
    for lane in beside:
        if lane.start >= span.stop or max(lane.readers) < span.start:
            continue
        x = corner[0] + rail - 12 - lane.place * step

        def at(row: int, part: float, first: int = span.start) -> float:
            return corner[1] + (row - first) * _PITCH + part * _HEIGHT

        begin = at(lane.start, 0.8) if lane.start >= span.start else corner[1] - 6
        last = [row for row in lane.readers if row < span.stop][-1:]
        end = at(last[0], 0.25) if max(lane.readers) < span.stop and last else at(span.stop - 1, 1.15)
        marks.append(Stroke(((x, begin), (x, end)), _MUTED, 1.2))
        if lane.start >= span.start:
            marks.append(Stroke(((x, begin), (corner[0] + rail, begin)), _MUTED, 1.2))
        for row in lane.readers:
            if row in span:
                y = at(row, 0.25)
                tip = corner[0] + rail
                marks.append(Stroke(((x, y), (tip, y)), _MUTED, 1.2))
                marks.append(Stroke(((tip - 4, y - 3), (tip, y), (tip - 4, y + 3)), _MUTED, 1.2))
    return marks


def _row(row: Row, corner: Point, sets: dict[int, UnitSetReport]) -> list[Mark]:
    x, y = corner
    marks: list[Mark] = []
    if row.frozen:
        marks += hatched((x, y), (_BOX, _HEIGHT))
    marks.append(Box((x, y), (_BOX, _HEIGHT), "", INK if row.outgoing or row.incoming else _MUTED))
    marks += _bar(row.incoming, (x + 1, y + 1)) + _bar(row.outgoing, (x + _BOX - _BAR - 1, y + 1))
    middle = x + _BAR + 10
    if row.frozen:
        marks.append(Box((middle - 4, y + 2), (_BOX - 2 * _BAR - 12, _HEIGHT - 4), "#ffffff"))
    second = " · ".join(part for part in [row.detail, *row.words] if part)
    if row.frozen:
        second = f"frozen: {row.frozen}"
    title, below = printable(row.title, 38), printable(second, 45)
    marks.append(Text((middle, y + (13 if below else 20)), title, size=12.0, bold=True))
    if below:
        marks.append(Text((middle, y + 26), below, size=10.0))
    left = x + _BOX + 14
    for place, number in enumerate(row.makes[:2]):
        marks += _label(
            sets[number], row.title, set_colour(number), (left + place * (_LABEL / 2 if len(row.makes) > 1 else 0), y)
        )
    if len(row.makes) > 2:
        marks.append(Text((left + _LABEL - 4, y + 10), f"+{len(row.makes) - 2}", "end", size=_SMALL))
    return marks


def _bar(segments: Segments, corner: Point) -> list[Mark]:
    """Unit sets along an axis, as long as they are many; hatched grey where nothing can move."""
    total = sum(length for _, length in segments)
    if not total:
        return []
    x, marks = corner[0], []
    for number, length in segments:
        width = _BAR * length / total
        marks.append(Box((x, corner[1]), (width, _HEIGHT - 2), FIXED if number < 0 else set_colour(number)))
        x += width
    return list(marks)


def _label(unit_set: UnitSetReport, title: str, colour: str, corner: Point) -> list[Mark]:
    x, y = corner
    named = "" if unit_set.name.endswith(title) else f" ({printable(unit_set.name, 24)})"
    marks: list[Mark] = [Box((x, y + 3), (9, 9), colour), Text((x + 14, y + 12), unit_set.group + named, size=12.0)]
    marks += strip(unit_set, (x, y + 18), (_STRIP, 11.0))
    marks.append(Text((x + _STRIP + 6, y + 27), remarks(unit_set), size=_SMALL))
    return marks


def remarks(unit_set: UnitSetReport) -> str:
    found = unit_set.degenerate
    said = [f"{len(units)} {kind}" for kind, units in (("dead", found.dead), ("constant", found.constant)) if units]
    said += [f"{sum(map(len, found.duplicate))} duplicate"] if found.duplicate else []
    if found.norm_imbalance is not None and found.norm_imbalance >= 1:
        said.append(f"in/out 10^{found.norm_imbalance:.1f}")
    return ", ".join(said)


def strip(unit_set: UnitSetReport, corner: Point, size: Point) -> list[Mark]:
    """The ratio of incoming to outgoing norm of each unit, in order; of many, the farthest from 1 in each stretch."""
    marks: list[Mark] = []
    ratios, found = unit_set.degenerate.log10_ratios, unit_set.degenerate
    cells = min(50, unit_set.size)
    marked = dict.fromkeys((unit for units in found.duplicate for unit in units), DUPLICATE)
    marked |= dict.fromkeys(found.constant, CONSTANT) | dict.fromkeys(found.dead, DEAD)
    for cell in range(cells):
        units = range(cell * unit_set.size // cells, (cell + 1) * unit_set.size // cells)
        place, width = corner[0] + cell * size[0] / cells, size[0] / cells
        known = [ratio for unit in units if (ratio := ratios[unit] if unit < len(ratios) else None) is not None]
        fill = ratio_colour(max(known, key=abs)) if known else FIXED
        marks.append(Box((place, corner[1]), (width, size[1]), fill))
        worst = next(
            (colour for kind in (DEAD, CONSTANT, DUPLICATE) for u in units if (colour := marked.get(u)) == kind), None
        )
        if worst:
            marks.append(Box((place, corner[1] + size[1] / 2), (width, size[1] / 2), worst))
    return marks


def hatched(corner: Point, size: Point, gap: float = 8.0) -> list[Mark]:
    """Slanted lines within a rectangle."""
    (x, y), (width, height) = corner, size
    marks: list[Mark] = []
    for number in range(1, int((width + height) / gap) + 1):
        across = number * gap
        start = (x + across, y) if across <= width else (x + width, y + across - width)
        end = (x, y + across) if across <= height else (x + across - height, y + height)
        marks.append(Stroke((start, end), "#9a9a9a", 1.2))
    return marks


def _key(corner: Point) -> list[Mark]:
    x, y = corner
    marks: list[Mark] = [Stroke(((x, y - 16), (x + 640, y - 16)), FAINT, 1.0)]
    for colour, word, wide in (
        (ratio_colour(-2), "outgoing norm ≥ 100× incoming", 230),
        (ratio_colour(0), "equal", 66),
        (ratio_colour(2), "incoming ≥ 100× outgoing", 190),
        (FIXED, "cannot move, or no ratio", 180),
    ):
        marks += [Box((x, y - 9), (12, 10), colour), Text((x + 17, y), word, size=_SMALL)]
        x += wide
    x, y = corner[0], y + 20
    for colour, word, wide in ((DEAD, "dead", 70), (CONSTANT, "constant", 90), (DUPLICATE, "duplicate", 100)):
        marks += [Box((x, y - 8), (12, 8), colour, FIXED), Text((x + 17, y), word, size=_SMALL)]
        x += wide
    marks += [*hatched((x, y - 9), (16, 10), 5), Text((x + 22, y), "frozen: not understood", size=_SMALL)]
    return marks
