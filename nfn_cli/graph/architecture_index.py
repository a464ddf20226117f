"""graph/architecture_index.py: which known architectures have the tensors of a checkpoint. Names, shapes and digests; no graph.

`architectures.zip` is made by benchmarks/build_architectures.py. Its index lists every classifier of torchvision and timm,
its graphs those that were captured and compared with the modules they come from.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nfn_cli.graph.graph_file import graph_from_json
from nfn_cli.graph.model import Graph

LIBRARY = Path(__file__).with_name("architectures.zip")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class KnownArchitecture:
    """One line of the index.

    Attributes:
        name: "torchvision:resnet50", "timm:…".
        shapes: digest of names and shapes of its floating-point tensors, as the library makes them by default.
        body: the same with the axis that counts classes left open.
        heads: tensor -> the axis that counts classes.
        group: digest of its symmetry group; empty where its graph is not in the library.
        eps: digest of the ε of its batch norms.
    """

    name: str
    shapes: str
    body: str
    heads: Mapping[str, int]
    group: str = ""
    eps: str = ""

    @property
    def captured(self) -> bool:
        return bool(self.group)


def names_key(names: Iterable[str]) -> str:
    """Digest of the names of floating-point tensors."""
    return _digest(names)


def shapes_key(shapes: Mapping[str, Shape], open_axes: Mapping[str, int] | None = None) -> str:
    """Digest of names and shapes; an open axis (tensor -> axis) counts as any length."""
    axes = open_axes or {}
    return _digest(
        f"{name} {['*' if axes.get(name) == axis else n for axis, n in enumerate(shape)]}"
        for name, shape in shapes.items()
    )


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Index:
    architectures: Mapping[str, KnownArchitecture]
    by_names: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def _index() -> _Index:
    with zipfile.ZipFile(LIBRARY) as archive:
        values = json.loads(archive.read("index.json"))
    known = {name: KnownArchitecture(name, *entry) for name, entry in values["architectures"].items()}
    return _Index(known, {key: tuple(names) for key, names in values["names"].items()})


def known_architectures() -> tuple[str, ...]:
    """`torchvision:resnet50`, … in the order of the library: all that the index lists."""
    return tuple(_index().architectures)


def known_architecture(name: str) -> KnownArchitecture | None:
    return _index().architectures.get(name)


def candidates(shapes: Mapping[str, Shape]) -> tuple[KnownArchitecture, ...]:
    """Architectures with these tensors, whatever the number of classes; those that fit exactly come first."""
    index = _index()
    named = [index.architectures[name] for name in index.by_names.get(names_key(shapes), ())]
    fitting = [each for each in named if shapes_key(shapes, each.heads) == each.body]
    exact = shapes_key(shapes)
    return tuple(sorted(fitting, key=lambda each: (each.shapes != exact, not each.captured)))


def library_graph(name: str) -> Graph:
    """The graph of a captured architecture."""
    with zipfile.ZipFile(LIBRARY) as archive:
        return graph_from_json(json.loads(archive.read(f"{name.replace(':', '/')}.json")))
