"""zoo/inr_stated.py: what a file, or a zoo about its row, states of the image that an INR shows. Runs no network.

Files say it in their metadata, as `nfn fit-inr` writes them: height, width, range, coordinates. Rows of a zoo say it in columns
of these names, or low and high, order and centred, which go before. What is not of these forms counts as not stated. Tensors
that are the very ones of a published form show what they show in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nfn_cli.checkpoint import zoo_shard
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.networks.inr import ORDERS, Coordinates
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import Array, table_file
from nfn_cli.zoo.inr_folders import LAYOUTS, channels_of, shown_by

_LARGEST_SIDE = 4096
_BARE = ("torch-zip", "torch-legacy", "safetensors")  # tensors without the code that runs them, which may add to values
_COLUMNS = ("height", "width", "range", "low", "high", "coordinates", "order", "centred")


@dataclass(frozen=True)
class Stated:
    """Attributes: size: (height, width) of the image; coordinates: where its pixels lie; pixels: values of black and white.
    None each where nothing says so."""

    size: tuple[int, int] | None = None
    coordinates: Coordinates | None = None
    pixels: tuple[float, float] | None = None

    def as_metadata(self) -> dict[str, str]:
        """For a file to say the same."""
        said = {"height": str(self.size[0]), "width": str(self.size[1])} if self.size else {}
        said |= {"coordinates": self.coordinates.as_text()} if self.coordinates else {}
        return said | ({"range": f"{self.pixels[0]:g},{self.pixels[1]:g}"} if self.pixels else {})


def stated(checkpoint: Checkpoint) -> Stated:
    """What is stated about one INR; of a zoo, the table of one shard is read, once for all its rows."""
    return stated_in({**_of_the_form(checkpoint), **_of_the_row(checkpoint), **checkpoint.metadata})


def stated_in(said: Mapping[str, str]) -> Stated:
    """What metadata, or the cells of a row by their columns, state."""
    return Stated(_size(said), _coordinates(said), _range(said))


def coordinates_of_rows(columns: Columns) -> list[Coordinates]:
    """Where the images of all rows of a zoo lie; the usual coordinates where nothing says so."""
    told = {name: columns[name].tolist() for name in ("coordinates", "order", "centred") if name in columns}
    cells = list(zip(*told.values(), strict=True))
    found = {each: stated_in(dict(zip(told, map(str, each), strict=True))).coordinates for each in set(cells)}
    return [found[each] or Coordinates() for each in cells]


def _of_the_form(checkpoint: Checkpoint) -> dict[str, str]:
    if checkpoint.container not in _BARE:
        return {}
    shapes = {name: tuple(array.shape) for name, array in checkpoint.tensors.items()}
    layout = next((each for each in LAYOUTS if each.is_published(shapes)), None)
    if layout is None:
        return {}
    shown = shown_by(layout, channels_of(shapes, layout))
    size = {name: shown[name] for name in ("height", "width")}
    return size | {"range": f"{shown['low']},{shown['high']}", "coordinates": f"-1,1,{shown['order']}"}


def _of_the_row(checkpoint: Checkpoint) -> dict[str, str]:
    folder, _, row = checkpoint.path.rpartition("#")
    if checkpoint.container != "zoo-row" or not row.isdecimal() or not zoo_shard.is_zoo(Path(folder)):
        return {}
    try:
        first = 0
        for path, rows in _shards(Path(folder), (Path(folder) / zoo_shard.SHARDS).stat().st_mtime_ns):
            if int(row) < first + rows:
                table = _table(path.with_suffix(".csv"), path.stat().st_mtime_ns)
                return {name: str(cells[int(row) - first]) for name, cells in table.items()}
            first += rows
    except (NfnError, OSError, IndexError):  # a zoo without a table that fits says nothing
        pass
    return {}


@lru_cache(maxsize=4)
def _shards(folder: Path, _written: int) -> tuple[tuple[Path, int], ...]:
    return tuple((path, zoo_shard.open_shard(path).rows) for path in zoo_shard.shard_paths(folder))


@lru_cache(maxsize=64)
def _table(path: Path, _written: int) -> dict[str, Array]:
    columns = Columns((table_file(path),))
    return {name: columns[name] for name in _COLUMNS if name in columns}


def _size(said: Mapping[str, str]) -> tuple[int, int] | None:
    sides = [said.get(name, "") for name in ("height", "width")]
    if not all(side.isdecimal() and len(side) < 6 and 0 < int(side) <= _LARGEST_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _range(said: Mapping[str, str]) -> tuple[float, float] | None:
    return _ends([said.get("low", ""), said.get("high", "")]) or _ends(said.get("range", "").split(","))


def _coordinates(said: Mapping[str, str]) -> Coordinates | None:
    order, centred = said.get("order", ""), said.get("centred", "")
    if order in ORDERS or centred:
        return Coordinates(order=order if order in ORDERS else ORDERS[0], centred=centred.lower() == "true")
    words = said.get("coordinates", "").split(",")
    ends = _ends(words[:2])
    if ends is None or len(words) < 3 or words[2] not in ORDERS:
        return None
    return Coordinates(*ends, words[2], "centred" in words[3:])


def _ends(words: list[str]) -> tuple[float, float] | None:
    """Two different numbers, or None."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        return None
    good = len(found) == 2 and found[0] != found[1] and all(abs(number) < 1e6 for number in found)
    return (found[0], found[1]) if good else None
