"""cli/chart_file.py: a drawn page as an SVG or a PNG file, whole or not at all. Pillow only for PNG; nothing else draws."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from nfn_cli.cli.chart import FAINT, INK, PAPER, Box, Dot, Mark, Page, Stroke, Text
from nfn_cli.errors import SurroundingsFailed, WrongUsage

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

KINDS = (".png", ".svg")
_FINER = 3  # a PNG is drawn so many times larger and reduced: smooth lines
_MOST_PIXELS = 120_000_000  # of what is reduced: large pages are drawn less finely
_RADIUS = 4.0
_SPELLED = (
    ("×", "x"),
    ("→", "->"),
    ("⋊", ":"),
    ("≀", "wr"),
    ("∞", "inf"),
    ("ω", "w"),
    ("≥", ">="),
    ("…", "..."),
    ("∥", "||"),
)


def check_chart(path: Path, force: bool) -> None:
    """What `write_chart` would refuse, before work is done for it.

    Raises:
        WrongUsage: neither .png nor .svg, or the file exists and `force` is off.
        SurroundingsFailed: a PNG is wanted and Pillow is missing (code "missing-extra").
    """
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.printable import printable

    if path.suffix.lower() not in KINDS:
        raise WrongUsage("a chart is a .png or an .svg file", where=printable(path), fix="give the name such an ending")
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


def svg(page: Page, *, title: str = "", description: str = "") -> str:
    """The page as an SVG document.

    Args:
        title, description: for those who do not see it.
    """
    size = f'width="{page.width:g}" height="{page.height:g}" viewBox="0 0 {page.width:g} {page.height:g}"'
    role = ' role="img"' if title else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}{role} font-family="Helvetica, Arial, sans-serif">'
    said = [f"<{tag}>{escape(text)}</{tag}>" for tag, text in (("title", title), ("desc", description)) if text]
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return "\n".join([head, *said, paper, *map(_svg_mark, page.marks), "</svg>", ""])


def themed(document: str) -> str:
    """An SVG document for a page with light and dark colours: ink, faint lines and paper are those of the page."""
    for name, colour in (("ink", INK), ("faint", FAINT), ("paper", PAPER)):
        for part in ("fill", "stroke"):
            document = document.replace(f'{part}="{colour}"', f'{part}="var(--{name})"')
    return document


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
    if isinstance(mark, Box):
        where = (
            f'x="{mark.place[0]:.1f}" y="{mark.place[1]:.1f}" width="{mark.size[0]:.2f}" height="{mark.size[1]:.1f}"'
        )
        edge = f' stroke="{mark.edge}"' if mark.edge else ""
        return f'<rect {where} fill="{mark.fill or "none"}"{edge}/>'
    weight = ' font-weight="bold"' if mark.bold else ""
    where = f'x="{mark.place[0]:.1f}" y="{mark.place[1]:.1f}" text-anchor="{mark.anchor}" font-size="{mark.size:g}"'
    return f'<text {where}{weight} fill="{mark.colour}">{escape(mark.text)}</text>'


def png(page: Page) -> bytes:
    """The page as a PNG file.

    Raises:
        SurroundingsFailed: Pillow is missing.
    """
    image_module, draw_module, font_module = _pillow()
    size = round(page.width), round(page.height)
    if size[0] * size[1] > _MOST_PIXELS:
        raise SurroundingsFailed(
            f"a PNG of {size[0]} × {size[1]} pixels is too large", fix="name an .svg", code="memory"
        )
    finer = next((f for f in range(_FINER, 1, -1) if size[0] * size[1] * f * f <= _MOST_PIXELS), 1)
    image = image_module.new("RGB", (size[0] * finer, size[1] * finer), PAPER)
    pen = draw_module.Draw(image)
    for mark in page.marks:
        _png_mark(pen, font_module, mark, finer)
    out = BytesIO()
    image.resize(size, image_module.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()


def _png_mark(pen: ImageDraw, fonts: Any, mark: Mark, finer: int) -> None:
    if isinstance(mark, Stroke):
        points = [(x * finer, y * finer) for x, y in mark.points]
        pen.line(points, fill=mark.colour, width=max(1, round(mark.width * finer)), joint="curve")
    elif isinstance(mark, Dot):
        x, y = (value * finer for value in mark.centre)
        half = (_RADIUS if mark.shape == "round" else _RADIUS - 0.5) * finer
        draw = pen.ellipse if mark.shape == "round" else pen.rectangle
        draw((x - half, y - half, x + half, y + half), fill=mark.colour)
    elif isinstance(mark, Box):
        x, y = (value * finer for value in mark.place)
        width, height = (value * finer for value in mark.size)
        corners = (x, y, max(x, x + width - 1), max(y, y + height - 1))
        pen.rectangle(corners, fill=mark.fill or None, outline=mark.edge or None, width=finer if mark.edge else 1)
    else:
        _png_text(pen, fonts, mark, finer)


def _png_text(pen: ImageDraw, fonts: Any, mark: Text, finer: int) -> None:
    place = mark.place[0] * finer, mark.place[1] * finer
    text, font = _lettered(fonts, mark.text, mark.size * finer)
    if font is None:
        pen.text(place, text, fill=mark.colour)
        return
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[mark.anchor]
    pen.text(place, text, fill=mark.colour, font=font, anchor=anchor, stroke_width=1 if mark.bold else 0)


def _lettered(fonts: Any, text: str, size: float) -> tuple[str, Any]:
    """The text and a font that has its signs; without one, signs in the letters that Pillow brings."""
    if not text.isascii():
        try:
            return text, fonts.truetype("DejaVuSans.ttf", round(size))
        except (OSError, ImportError):
            for sign, words in _SPELLED:
                text = text.replace(sign, words)
    try:
        return text, fonts.load_default(size)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType: small letters of one size
        return text.encode("latin-1", "replace").decode("latin-1"), None


def _pillow() -> tuple[Any, Any, Any]:
    from nfn_cli.zoo.pictures import pillow

    image = pillow(otherwise="name an .svg")
    from PIL import ImageDraw, ImageFont

    return image, ImageDraw, ImageFont
