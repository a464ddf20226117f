"""cli/chart_file.py: a drawn page as an SVG or a PNG file, whole or not at all. Pillow only for PNG; nothing else draws."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from nfn_cli.cli.chart import PAPER, Dot, Mark, Page, Stroke, Text
from nfn_cli.errors import SurroundingsFailed, WrongUsage

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

KINDS = (".png", ".svg")
_FINER = 3  # a PNG is drawn so many times larger and reduced: smooth lines
_RADIUS = 4.0


def check_chart(path: Path, force: bool) -> None:
    """What `write_chart` would refuse, before work is done for it.

    Raises:
        WrongUsage: neither .png nor .svg, or the file exists and `force` is off.
        SurroundingsFailed: a PNG is wanted and Pillow is missing (code "missing-extra").
    """
    from nfn_cli.checkpoint.atomic_write import check_output

    if path.suffix.lower() not in KINDS:
        raise WrongUsage("a chart is a .png or an .svg file", where=str(path))
    if path.suffix.lower() == ".png":
        _pillow()
    check_output(path, force)


def write_chart(page: Page, path: Path, *, force: bool) -> None:
    """Raises as `check_chart`, and SurroundingsFailed for a failing disk."""
    from nfn_cli.checkpoint.atomic_write import atomic_output

    check_chart(path, force)
    content = svg(page).encode() if path.suffix.lower() == ".svg" else png(page)
    with atomic_output(path, force) as handle:
        handle.write(content)


def svg(page: Page) -> str:
    """The page as an SVG document."""
    size = f'width="{page.width:g}" height="{page.height:g}" viewBox="0 0 {page.width:g} {page.height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">'
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return "\n".join([head, paper, *map(_svg_mark, page.marks), "</svg>", ""])


def _svg_mark(mark: Mark) -> str:
    if isinstance(mark, Stroke):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
        how = f'stroke="{mark.colour}" stroke-width="{mark.width:g}" stroke-linejoin="round"'
        return f'<polyline points="{points}" fill="none" {how}/>'
    if isinstance(mark, Dot):
        x, y = mark.centre
        if mark.shape == "round":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS:g}" fill="{mark.colour}"/>'
        side = 2 * _RADIUS - 1
        where = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:g}" height="{side:g}"'
        return f'<rect {where} fill="{mark.colour}"/>'
    weight = ' font-weight="bold"' if mark.bold else ""
    where = f'x="{mark.place[0]:.1f}" y="{mark.place[1]:.1f}" text-anchor="{mark.anchor}" font-size="{mark.size:g}"'
    return f'<text {where}{weight} fill="#222222">{escape(mark.text)}</text>'


def png(page: Page) -> bytes:
    """The page as a PNG file.

    Raises:
        SurroundingsFailed: Pillow is missing.
    """
    image_module, draw_module, font_module = _pillow()
    size = round(page.width), round(page.height)
    image = image_module.new("RGB", (size[0] * _FINER, size[1] * _FINER), PAPER)
    pen = draw_module.Draw(image)
    for mark in page.marks:
        _png_mark(pen, font_module, mark)
    out = BytesIO()
    image.resize(size, image_module.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()


def _png_mark(pen: ImageDraw, fonts: Any, mark: Mark) -> None:
    if isinstance(mark, Stroke):
        points = [(x * _FINER, y * _FINER) for x, y in mark.points]
        pen.line(points, fill=mark.colour, width=round(mark.width * _FINER), joint="curve")
    elif isinstance(mark, Dot):
        x, y = (value * _FINER for value in mark.centre)
        half = (_RADIUS if mark.shape == "round" else _RADIUS - 0.5) * _FINER
        draw = pen.ellipse if mark.shape == "round" else pen.rectangle
        draw((x - half, y - half, x + half, y + half), fill=mark.colour)
    else:
        _png_text(pen, fonts, mark)


def _png_text(pen: ImageDraw, fonts: Any, mark: Text) -> None:
    place = mark.place[0] * _FINER, mark.place[1] * _FINER
    try:
        font = fonts.load_default(mark.size * _FINER)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType: small letters of one size
        pen.text(place, mark.text, fill="#222222")
        return
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[mark.anchor]
    pen.text(place, mark.text, fill="#222222", font=font, anchor=anchor, stroke_width=1 if mark.bold else 0)


def _pillow() -> tuple[Any, Any, Any]:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise SurroundingsFailed(
            "drawing a PNG needs Pillow", fix="pip install 'nfn-cli[images]', or name an .svg", code="missing-extra"
        ) from None
    return Image, ImageDraw, ImageFont
