"""cli/network_picture/written.py: pictures and pages of reports as files, refused before any work where they may not be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nfn_cli.cli.network_picture.drawing import Drawn
from nfn_cli.errors import WrongUsage
from nfn_cli.printable import printable
from nfn_cli.symmetry.report import Report


def check_files(plot: Path | None, html: Path | None, inputs: int, force: bool) -> None:
    """Raises:
    WrongUsage: another kind of file, a file that exists, one file for both, or one picture of several checkpoints.
    SurroundingsFailed: a PNG is wanted and Pillow is missing.
    """
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli.chart_file import check_chart

    if plot is not None:
        if inputs != 1:
            raise WrongUsage("a picture shows one checkpoint", where="--plot", fix="--html takes several")
        check_chart(plot, force)
    if html is not None:
        if html.suffix.lower() not in (".html", ".htm"):
            raise WrongUsage("a page is an .html file", where=printable(html), fix="give the name such an ending")
        check_output(html, force)


def write_picture(report: Report, networks: Sequence[Drawn], path: Path, *, force: bool) -> None:
    from nfn_cli.cli.chart_file import write_chart
    from nfn_cli.cli.network_picture.drawing import picture

    write_chart(picture(report, networks), path, force=force)


def write_page(content: str, path: Path, *, force: bool) -> None:
    from nfn_cli.checkpoint.atomic_write import atomic_output

    with atomic_output(path, force) as handle:
        handle.write(content.encode())
