"""zoo/published_inrs.py: published folders of sine networks as zoos: label, image and split come from the names of the files.

The activation is taken as sin, with the published frequency, only where a checkpoint has the very tensors of the published
ones; others are left out.
"""

from __future__ import annotations

from pathlib import Path

from nfn_cli.checkpoint import load
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.graph import NameOptions
from nfn_cli.printable import printable
from nfn_cli.zoo.checkpoint_folder import Progress, families_of
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import held_table
from nfn_cli.zoo.inr_folders import channels_of, columns_of, layout_in, named_files
from nfn_cli.zoo.model import Zoo


def is_published_folder(path: Path) -> bool:
    """Whether the names below a folder are those of published sine networks."""
    try:
        return layout_in(path) is not None
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> SurroundingsFailed:
    return SurroundingsFailed(f"cannot be read ({error.strerror or error})", where=printable(error.filename or ""))


def open_published_folder(path: Path, progress: Progress = iter) -> Zoo:
    """All networks of a published folder; every file is opened once.

    Raises:
        Refused: not one checkpoint has the published tensors.
        SurroundingsFailed: a folder cannot be read.
    """
    layout = layout_in(path)
    assert layout is not None
    try:
        files = named_files(path, layout)
    except OSError as error:
        raise _unreadable(error) from None
    collection = path.resolve().name
    rows = [columns_of(layout, file, collection, 0) for file in files]

    def opened(row: int) -> tuple[Checkpoint, NameOptions]:
        checkpoint = load(path / files[row].path)
        shapes = {name: tuple(array.shape) for name, array in checkpoint.tensors.items()}
        if not layout.is_published(shapes):
            raise Refused(
                f"not the tensors of the networks of {layout.name}, so its frequency is not known",
                fix="name such checkpoints in a CSV with columns path, config.activation and config.omega",
                code="not-as-published",
            )
        rows[row] = columns_of(layout, files[row], collection, channels_of(shapes, layout))
        return checkpoint, NameOptions(activation="sin", omega=layout.omega)

    families, taken, left_out = families_of(path, [file.path for file in files], opened, progress)
    columns = Columns((held_table(path, rows),)).where(taken)
    said = f"sine networks as published by {layout.name}, ω = {layout.omega}"
    note = f"taken for {said}: names and tensors are the published ones; state another ω in a CSV (config.omega)"
    return Zoo(str(path), said, families, columns, taken, left_out, (note,))
