"""train/inr_data.py: zoos of INRs in memory with labels and the split of their images. Knows zoo/; no model.

Networks follow their image: one of a test image is never trained on. Of the training images a share, drawn by a hash of
the image's number, is kept for validation, and their networks with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.networks.inr import Coordinates
from nfn_cli.train.zoo_part import Part, kept_parts, read_part
from nfn_cli.zoo.inr_stated import coordinates_of_rows
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import open_zoo

Array = np.ndarray[Any, np.dtype[Any]]
FACTS = ("psnr", "low", "high", "config.omega")
_VALIDATION = 16  # one in so many training images


@dataclass(frozen=True)
class InrData:
    """Networks of one or several zoos.

    Attributes:
        parts: by graph and coordinates; their rows cover 0..n−1.
        label, index: (n,) of the image, index within its split.
        split: (n,) "train", "validation" or "test".
        coordinates: (n,) of `Coordinates`: where each image lies in its network's plane (`centred` left out).
        facts: (n,) each of FACTS, NaN where a zoo does not tell.
        names: of the image sets; description: of the zoos.
        size: (height, width) of the images.
        left_out: rows that are not finite.
    """

    parts: tuple[Part, ...]
    label: Array
    index: Array
    split: Array
    coordinates: Array
    facts: dict[str, Array]
    names: tuple[str, ...]
    description: str
    size: tuple[int, int]
    left_out: int

    def __len__(self) -> int:
        return len(self.label)

    def where(self, keep: Array) -> InrData:
        """The rows for which `keep` (bool) holds, in their order."""
        facts = {name: values[keep] for name, values in self.facts.items()}
        return replace(
            self,
            parts=kept_parts(self.parts, keep),
            label=self.label[keep],
            index=self.index[keep],
            split=self.split[keep],
            coordinates=self.coordinates[keep],
            facts=facts,
        )


def in_validation(index: Array) -> Array:
    """(n,) bool from numbers of training images; the same for INRs and for the images themselves."""
    mixed = (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray((mixed >> np.uint64(40)) % np.uint64(_VALIDATION) == 0)


def load_inrs(folders: Sequence[str | Path]) -> InrData:
    """All INRs of the zoos.

    Raises:
        WrongUsage: nothing is left.
        Refused, SurroundingsFailed: as `open_zoo`; a zoo does not tell labels and the split of its images.
    """
    parts: list[Part] = []
    columns: dict[str, list[Array]] = {
        name: [] for name in ("label", "index", "split", "coordinates", "finite", *FACTS)
    }
    names, descriptions, sizes, start = [], [], set(), 0
    for folder in folders:
        zoo = open_zoo(folder, final_only=False)
        for name in ("label", "index", "split", "height", "width"):
            if name not in zoo.columns:
                raise Refused(f"it has no column {name}", where=str(folder), fix="make it with nfn zoo fit-inrs")
        told = np.asarray(zoo.columns["split"]).astype(str)
        index = zoo.numbers("index").astype(np.int64)
        finite = np.ones(len(zoo), bool)
        lies = _coordinates(zoo)
        for family in zoo.families:
            part, finite_here = read_part(family, start)
            finite[family.rows] &= finite_here
            parts += _by_coordinates(part, lies[family.rows])
        columns["label"].append(zoo.numbers("label").astype(np.int64))
        columns["index"].append(index)
        columns["split"].append(np.where((told == "train") & in_validation(index), "validation", told))
        columns["coordinates"].append(lies)
        columns["finite"].append(finite)
        for name in FACTS:
            columns[name].append(zoo.numbers(name) if name in zoo.columns else np.full(len(zoo), np.nan))
        names += sorted(set(np.asarray(zoo.columns["dataset"]).astype(str))) if "dataset" in zoo.columns else []
        sizes |= set(
            zip(zoo.numbers("height").astype(int).tolist(), zoo.numbers("width").astype(int).tolist(), strict=True)
        )
        descriptions.append(zoo.description)
        start += len(zoo)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    if len(sizes) != 1:
        raise WrongUsage(f"images of {len(sizes)} sizes", fix="one classifier is for images of one size")
    data = InrData(
        tuple(parts),
        joined["label"],
        joined["index"],
        joined["split"],
        joined["coordinates"],
        {name: joined[name] for name in FACTS},
        tuple(dict.fromkeys(names)),
        "; ".join(descriptions),
        sizes.pop(),
        int((~joined["finite"]).sum()),
    ).where(joined["finite"])
    if not (data.split == "train").any() or not (data.split == "validation").any():
        raise WrongUsage("too few training networks", where=", ".join(map(str, folders)))
    return data


def _coordinates(zoo: Zoo) -> Array:
    """(n,) of `Coordinates`."""
    found = np.full(len(zoo), Coordinates(), object)
    for row, where in enumerate(coordinates_of_rows(zoo.columns)):
        found[row] = replace(where, centred=False)
    return found


def _by_coordinates(part: Part, lies: Array) -> list[Part]:
    """One part for each place where images lie."""
    split = []
    for where in dict.fromkeys(lies):
        mine = np.flatnonzero(lies == where)
        split.append(Part(part.graph, {name: array[mine] for name, array in part.tensors.items()}, part.rows[mine]))
    return split if len(split) > 1 else [part]
