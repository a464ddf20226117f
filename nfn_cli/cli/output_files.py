"""cli/output_files.py: where the outputs of several inputs go. Knows paths; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def check_picture(path: Path, force: bool) -> None:
    """What would be refused of a PNG to be written, before work is done for it.

    Raises:
        WrongUsage: its name says another kind of file, or it exists and `force` is off.
        SurroundingsFailed: Pillow is missing (code "missing-extra").
    """
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.errors import WrongUsage
    from nfn_cli.printable import printable
    from nfn_cli.zoo.pictures import pillow

    if path.suffix.lower() not in (".png", ""):
        raise WrongUsage("the picture is a PNG", where=printable(path), fix="give the name the ending .png")
    check_output(path, force)
    pillow()


def output_files(paths: list[str], output: Path, name_of: Callable[[str], str], what: str, fix: str) -> dict[str, Path]:
    """One input -> `output`, unless that is a folder; several -> files in the folder `output`, made where missing.

    Args:
        name_of: path of an input -> name of its output in a folder.
        what: inputs, in words; fix: what to do where two would have one name.

    Raises:
        WrongUsage: two would have one name, or an input is named twice.
        SurroundingsFailed: the folder cannot be made.
    """
    from nfn_cli.checkpoint.atomic_write import surroundings_failed
    from nfn_cli.errors import WrongUsage
    from nfn_cli.printable import printable

    if len(paths) == 1 and not output.is_dir():
        return {paths[0]: output}
    targets = {path: output / name_of(path) for path in paths}
    if len(set(targets.values())) != len(paths):
        raise WrongUsage(f"two {what} have one name", where=printable(output), fix=fix)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise surroundings_failed(error, output) from None
    return targets
