"""zoo/inr_folders.py: names of published folders of sine networks, and what they tell of each file. Knows names; opens no file.

Zhou et al. 2023 (Permutation Equivariant Neural Functionals, data `siren_mnist_wts`, `siren_fashion_wts`,
`siren_cifar_wts`): `randinit_smaller_5s/net123.pth`, further fits of the same images under `randinit_smaller_aug0_5s`. The
number counts the training images, then the test images. Values lie in [−1, 1].

Navon et al. 2023 (Equivariant Architectures for Learning in Deep Weight Spaces, data `mnist-inrs`):
`mnist_png_training_5_123/checkpoints/model_final.pth`. The module adds 1/2 to what its tensors compute, so these show values
in [−1/2, 1/2]; the column is the first coordinate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_TRAINING_IMAGES = MappingProxyType({1: 60_000, 3: 50_000})  # of MNIST and FashionMNIST; of CIFAR-10
_SIDE = MappingProxyType({1: 28, 3: 32})


@dataclass(frozen=True)
class Layout:
    """One published form.

    Attributes:
        name: whose.
        folder: of the names of folders that hold networks.
        file: of the paths of checkpoints below such a folder, with "/".
        tensors: of every checkpoint, whose shapes are 2-32-32-1 or 2-32-32-3.
        omega: of every layer, as the authors' code has it.
        low, high: values of black and white; order: of the coordinates.
        facts: (folder, file, path of the collection, channels) -> what the names tell.
    """

    name: str
    folder: re.Pattern[str]
    file: re.Pattern[str]
    tensors: tuple[str, ...]
    omega: str
    low: str
    high: str
    order: str
    facts: Callable[[re.Match[str], re.Match[str], str, int], dict[str, str]]

    def is_published(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a checkpoint has the very tensors of the published ones, so that the frequency is known too."""
        channels = channels_of(shapes, self)
        widths = (2, 32, 32, channels)
        wanted: dict[str, tuple[int, ...]] = {}
        for layer, module in enumerate(self.tensors):
            wanted[f"{module}.weight"] = (widths[layer + 1], widths[layer])
            wanted[f"{module}.bias"] = (widths[layer + 1],)
        return channels in _SIDE and dict(shapes) == wanted


@dataclass(frozen=True)
class NamedFile:
    """A checkpoint whose path says what it shows.

    Attributes:
        path: below the collection, with "/".
        folder, file: the two matches.
    """

    path: str
    folder: re.Match[str]
    file: re.Match[str]


def channels_of(shapes: Mapping[str, tuple[int, ...]], layout: Layout) -> int:
    """Outputs of a checkpoint of this layout; 0 where it has another last layer."""
    return next(iter(shapes.get(f"{layout.tensors[-1]}.bias", (0,))), 0)


def columns_of(layout: Layout, found: NamedFile, collection: str, channels: int) -> dict[str, str]:
    """The row of one checkpoint; fits of one image are one run, so that no split tears them apart."""
    told = layout.facts(found.folder, found.file, collection, channels)
    run = f"{told['dataset'] or 'image'}-{told['split'] or 'image'}-{told['index']}"
    return {"path": found.path, "run": run} | told | shown_by(layout, channels) | {"config.omega": layout.omega}


def shown_by(layout: Layout, channels: int) -> dict[str, str]:
    """How networks of this layout show their images, in columns of a zoo."""
    side = str(_SIDE.get(channels, ""))
    return {"low": layout.low, "high": layout.high, "order": layout.order, "height": side, "width": side}


def layout_in(path: Path) -> Layout | None:
    """The layout that a folder's subfolders have; None for any other folder. Reads no more than it needs."""
    if not path.is_dir():
        return None
    with os.scandir(path) as entries:
        for entry in entries:
            layout = next((each for each in LAYOUTS if each.folder.fullmatch(entry.name)), None)
            if layout and _is_folder(entry) and next(_files(path, entry.name, layout), None):
                return layout
    return None


def named_files(path: Path, layout: Layout) -> list[NamedFile]:
    """All checkpoints of a collection, in the order of split, image and copy."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if layout.folder.fullmatch(entry.name) and _is_folder(entry))
    found = [each for name in names for each in _files(path, name, layout)]
    return sorted(found, key=lambda each: (each.folder.groupdict().get("split") == "testing", _index(each), each.path))


def _index(found: NamedFile) -> int:
    return int((found.folder.groupdict() | found.file.groupdict())["index"])


def _files(path: Path, name: str, layout: Layout) -> Iterator[NamedFile]:
    """Checkpoints in one folder and in the folders right below it."""
    folder = layout.folder.fullmatch(name)
    assert folder is not None
    for place in (path / name, *_subfolders(path / name)):
        for entry in sorted(os.listdir(place)):
            below = (place / entry).relative_to(path / name).as_posix()
            file = layout.file.fullmatch(below)
            if file and (place / entry).is_file():
                yield NamedFile(f"{name}/{below}", folder, file)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)  # a link could lead out of the collection, or in circles


def _subfolders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if _is_folder(entry))


def _dataset(text: str, channels: int) -> str:
    lower = text.lower()
    for word, name in (("fashion", "fashion_mnist"), ("fmnist", "fashion_mnist"), ("cifar", "cifar10")):
        if word in lower:
            return name
    return "cifar10" if channels == 3 else "mnist" if "mnist" in lower else ""


def _zhou(folder: re.Match[str], file: re.Match[str], collection: str, channels: int) -> dict[str, str]:
    number, training = int(file["index"]), _TRAINING_IMAGES.get(channels)
    is_test = training is not None and number >= training
    return {
        "dataset": _dataset(collection, channels),
        "split": "" if training is None else "test" if is_test else "train",
        "index": str(number - training if training is not None and is_test else number),
        "label": folder["label"],
        "copy": folder["copy"] or "",
    }


def _navon(folder: re.Match[str], file: re.Match[str], collection: str, channels: int) -> dict[str, str]:
    return {
        "dataset": _dataset(folder["data"], channels),
        "split": {"training": "train", "testing": "test"}[folder["split"]],
        "index": str(int(folder["index"])),
        "label": folder["label"],
        "copy": "",
    }


LAYOUTS = (
    Layout(
        "Zhou et al. 2023",
        re.compile(r"[a-z0-9_]*?(?:_aug(?P<copy>[0-9]{1,4}))?_(?P<label>[0-9])s"),
        re.compile(r"net(?P<index>[0-9]{1,7})\.pth"),
        ("net.0.linear", "net.1.linear", "net.2"),
        "30",
        "-1",
        "1",
        "row-column",
        _zhou,
    ),
    Layout(
        "Navon et al. 2023",
        re.compile(
            r"(?P<data>[a-z0-9]*_?f?mnist)_png_(?P<split>training|testing)_(?P<label>[0-9])_(?P<index>[0-9]{1,7})"
        ),
        re.compile(r"(?:checkpoints/)?model_final\.pth"),
        ("seq.0", "seq.1", "seq.2"),
        "30",
        "-0.5",
        "0.5",
        "column-row",
        _navon,
    ),
)
