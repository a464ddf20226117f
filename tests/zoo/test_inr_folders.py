"""Published SIREN folders (Zhou et al. 2023, Navon et al. 2023) are zoos: label, image and split are in the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nfn_cli.cli.main import app
from nfn_cli.errors import Refused
from nfn_cli.symmetry.notation import group_name
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.zoo.import_zoo import import_zoo
from nfn_cli.zoo.open_zoo import open_zoo

ZHOU = ("net.0.linear", "net.1.linear", "net.2")
NAVON = ("seq.0", "seq.1", "seq.2")


def siren(modules: tuple[str, ...], seed: int, channels: int = 1, hidden: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = (2, hidden, hidden, channels)
    tensors = {}
    for layer, module in enumerate(modules):
        tensors[f"{module}.weight"] = torch.randn(widths[layer + 1], widths[layer], generator=generator) / 8
        tensors[f"{module}.bias"] = torch.randn(widths[layer + 1], generator=generator) / 8
    return tensors


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)


def zhou(folder: Path, channels: int = 1) -> Path:
    """Two training images, one of them fitted twice more, and two test images (or the last training image of MNIST)."""
    for seed, name in enumerate(
        (
            "randinit_smaller_5s/net0.pth",
            "randinit_smaller_0s/net10.pth",
            "randinit_smaller_aug0_5s/net0.pth",
            "randinit_smaller_aug12_5s/net0.pth",
            "randinit_smaller_7s/net60000.pth",
            "randinit_smaller_9s/net50001.pth",
        )
    ):
        save(folder / name, siren(ZHOU, seed, channels))
    return folder


def navon(folder: Path) -> Path:
    for seed, name in enumerate(("training_2_23089", "training_0_7", "testing_9_12", "testing_1_9999")):
        save(folder / f"mnist_png_{name}" / "checkpoints" / "model_final.pth", siren(NAVON, seed))
    return folder


def rows(zoo_folder: Path, *names: str) -> list[tuple[str, ...]]:
    columns = open_zoo(zoo_folder).columns
    return list(zip(*(columns[name].tolist() for name in names), strict=True))


def test_zhou_counts_training_images_then_test_images(tmp_path: Path) -> None:
    folder = zhou(tmp_path / "siren_mnist_wts")
    assert rows(folder, "split", "index", "label", "copy") == [
        ("train", "0", "5", ""),
        ("train", "0", "5", "0"),
        ("train", "0", "5", "12"),
        ("train", "10", "0", ""),
        ("train", "50001", "9", ""),
        ("test", "0", "7", ""),
    ]
    colours = zhou(tmp_path / "siren_cifar_wts", channels=3)
    assert rows(colours, "dataset", "split", "index", "height")[-2:] == [
        ("cifar10", "test", "1", "32"),
        ("cifar10", "test", "10000", "32"),
    ]


def test_fits_of_one_image_are_one_run(tmp_path: Path) -> None:
    zoo = open_zoo(zhou(tmp_path / "siren_fashion_wts"))
    runs = zoo.runs.tolist()
    assert runs[:3] == ["fashion_mnist-train-0"] * 3
    assert len(set(runs)) == 4


def test_navon_names_the_split(tmp_path: Path) -> None:
    folder = navon(tmp_path / "mnist-inrs")
    assert rows(folder, "dataset", "split", "index", "label", "low", "high") == [
        ("mnist", "train", "7", "0", "-0.5", "0.5"),
        ("mnist", "train", "23089", "2", "-0.5", "0.5"),
        ("mnist", "test", "12", "9", "-0.5", "0.5"),
        ("mnist", "test", "9999", "1", "-0.5", "0.5"),
    ]


@pytest.mark.parametrize("make", [zhou, navon])
def test_an_imported_folder_keeps_weights_names_and_group(make: object, tmp_path: Path) -> None:
    folder = make(tmp_path / "published_mnist")  # type: ignore[operator]
    done = import_zoo(folder, tmp_path / "zoo")
    zoo = open_zoo(tmp_path / "zoo")
    assert (done.rows, done.left_out) == (len(zoo), ())
    assert "ω = 30" in done.notes[0]
    path = zoo.columns["path"][3]
    for name, tensor in torch.load(folder / path, weights_only=True).items():
        assert np.array_equal(zoo.checkpoint(3).tensors[name], tensor.numpy())
    assert [group_name(s) for s in find_symmetry([zoo.network(3)]).unit_sets] == ["D∞ ≀ S_32"] * 2
    assert zoo.columns["split"].tolist() == open_zoo(folder).columns["split"].tolist()


def test_other_tensors_under_published_names_are_left_out(tmp_path: Path) -> None:
    folder = zhou(tmp_path / "siren_mnist_wts")
    save(folder / "randinit_smaller_1s" / "net11.pth", siren(ZHOU, 9, hidden=16))
    (folder / "randinit_smaller_1s" / "net12.pth").write_bytes(b"no checkpoint")
    (folder / "randinit_smaller_1s" / "notes.txt").write_text("net13.pth")
    zoo = open_zoo(folder)
    assert len(zoo) == 6
    assert {left.path: left.code for left in zoo.left_out}["randinit_smaller_1s/net11.pth"] == "not-as-published"
    assert len(zoo.left_out) == 2


def test_other_folders_are_no_zoo(tmp_path: Path) -> None:
    save(tmp_path / "a" / "experiment_5s" / "model.pth", siren(ZHOU, 0))
    save(tmp_path / "b" / "mnist_png_validation_2_3" / "checkpoints" / "model_final.pth", siren(NAVON, 0))
    for folder in ("a", "b"):
        with pytest.raises(Refused, match="no zoo"):
            open_zoo(tmp_path / folder)


def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    folder = navon(tmp_path / "mnist-inrs")
    save(tmp_path / "elsewhere" / "checkpoints" / "model_final.pth", siren(NAVON, 8))
    (folder / "mnist_png_training_3_1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(open_zoo(folder)) == 4


def test_the_command_says_what_it_takes_for_granted(tmp_path: Path) -> None:
    folder = zhou(tmp_path / "siren_mnist_wts")
    done = CliRunner().invoke(app, ["zoo", "import", str(folder), "-o", str(tmp_path / "zoo")])
    assert done.exit_code == 0
    assert "6 networks in 1 families" in " ".join(done.stdout.split())
    assert "Zhou et al. 2023, ω = 30" in " ".join(done.stderr.split())


def test_a_table_states_another_frequency(tmp_path: Path) -> None:
    folder = zhou(tmp_path / "siren_mnist_wts")
    lines = ["path,config.activation,config.omega", 'randinit_smaller_5s/net0.pth,sin,"10,20"']
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    zoo = open_zoo(folder)
    omegas = [op.attributes["omega"] for op in zoo.network(0).graph.ops if op.kind == "pointwise"]
    assert (len(zoo), omegas) == (1, [10.0, 20.0])
