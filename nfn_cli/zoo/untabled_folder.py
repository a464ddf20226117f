"""zoo/untabled_folder.py: a folder of checkpoints without a table as a zoo: all that is known of a row is its path. Writes nothing.

Only asked for where the user states what such checkpoints are: elsewhere a folder of files is no zoo.
"""

from __future__ import annotations

import os
from pathlib import Path

from nfn_cli.checkpoint import load
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import SurroundingsFailed
from nfn_cli.graph import NameOptions
from nfn_cli.printable import printable
from nfn_cli.zoo.checkpoint_folder import PATH, Progress, families_of, where_silent
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import held_table
from nfn_cli.zoo.model import Zoo

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".npz", ".onnx", ".pt2")
_DEEPEST = 4  # folders below the one that is named


def is_untabled_folder(path: Path) -> bool:
    """Whether there is a file below a folder that is called like a checkpoint."""
    return path.is_dir() and bool(_files(path, first_only=True))


def open_untabled_folder(path: Path, progress: Progress = iter, stated: NameOptions = NameOptions()) -> Zoo:
    """All checkpoints below a folder that hold one network each, in the order of their paths.

    Columns are path and folder: the path of the folder that a file is in, which often names a class.

    Raises:
        Refused: not one checkpoint can be taken.
        SurroundingsFailed: a folder cannot be read.
    """
    files = _files(path)

    def opened(row: int) -> tuple[Checkpoint, NameOptions]:
        checkpoint = load(path / files[row])
        return checkpoint, where_silent(checkpoint, stated)

    families, taken, left_out = families_of(path, files, opened, progress)
    rows = [{PATH: file, "folder": file.rpartition("/")[0]} for file in files]
    columns = Columns((held_table(path, rows),)).where(taken)
    return Zoo(str(path), "checkpoints of a folder", families, columns, taken, left_out)


def _files(path: Path, first_only: bool = False) -> list[str]:
    """Paths below the folder, with "/"; links to folders could lead out of it or in circles, and are not followed."""

    def failed(error: OSError) -> None:
        raise SurroundingsFailed(
            f"cannot be read ({error.strerror or error})", where=printable(error.filename or "")
        ) from None

    found: list[str] = []
    for place, folders, names in os.walk(path, onerror=failed):
        below = Path(place).relative_to(path)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(below.parts) < _DEEPEST else []
        found += [(below / n).as_posix() for n in names if n.endswith(_SUFFIXES) and not n.startswith(".")]
        if found and first_only:
            break
    return sorted(found)
