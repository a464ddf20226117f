"""Classifiers of INRs learn what INRs show, from training images alone, and say what they do not know."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from nfn_cli.errors import WrongUsage
from nfn_cli.networks.inr import Coordinates
from nfn_cli.networks.inr_pixels import Pixels
from nfn_cli.predictors.inr_predictor import assemble_inr, load_inr_predictor, read_outputs, write_inr_predictor
from nfn_cli.predictors.kinds.inr import INR_KINDS
from nfn_cli.train.inr_augment import InrAugment
from nfn_cli.train.inr_classifier import InrClassifierConfig, encode_inrs, train_inr_classifier
from nfn_cli.train.inr_data import in_validation, load_inrs
from nfn_cli.train.inr_measure import calibration_error, fitted_temperature
from nfn_cli.train.inr_untrained import untrained_sines
from nfn_cli.zoo.images import ImageData, ImageSet, read_images
from nfn_cli.zoo.inr_making import InrPlan, make_inr_zoo
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
SIDE = 10


def shapes(count: int, seed: int) -> ImageSet:
    """A disc, a frame or a cross, somewhere."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    images, labels = [], generator.integers(0, 3, count)
    for label in labels:
        down, right = np.abs(rows - generator.uniform(3.5, 5.5)), np.abs(columns - generator.uniform(3.5, 5.5))
        reach = np.maximum(down, right)
        drawn = (down**2 + right**2 < 7, (reach > 1.6) & (reach < 3.2), (np.minimum(down, right) < 1) & (reach < 3.5))
        images.append(np.where(drawn[label], 255, 0))
    return ImageSet(np.array(images, np.uint8)[..., None], labels.astype(np.int64))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for part, count, seed in (("train", 320, 0), ("test", 60, 1)):
        shown = shapes(count, seed)
        np.savez(folder / f"{part}.npz", images=shown.images, labels=shown.labels)
    return folder


@pytest.fixture(scope="module")
def zoo(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "shapes"
    found = read_images(images, grey=True)
    make_inr_zoo(
        folder, InrPlan(seed=1, hidden=(8, 8), steps=150, group_size=95), ImageData("shapes", found.train, found.test)
    )
    return folder


SMALL: dict[str, dict[str, Any]] = {
    "probe": {"blocks": [[12], [16]], "dropout": 0.0},
    "phasor": {"side": SIDE, "rank": 8, "head_width": 64},
}

EPOCHS = {"probe": 30, "phasor": 150}


@pytest.fixture(scope="module", params=["phasor", pytest.param("probe", marks=pytest.mark.slow)])
def trained(request: pytest.FixtureRequest, zoo: Path, images: Path) -> Any:
    torch.set_num_threads(1)
    config = InrClassifierConfig(
        request.param,
        images,
        labels=("disc", "frame", "cross"),
        epochs=30,
        architecture=SMALL[request.param],
        alarm=0.05,
    )
    return train_inr_classifier([zoo], config, "inr-shapes", ["make", "train"])


def test_inrs_of_test_images_are_classified(trained: Any) -> None:
    card, _ = trained
    assert card.test["count"] == 60
    assert card.test["accuracy"] > 0.65  # chance is a third
    assert card.test["parts"]["all"]["accuracy"] == card.test["accuracy"]
    assert card.labels == ("disc", "frame", "cross")


def test_untrained_networks_are_not_in_distribution(trained: Any) -> None:
    card, _ = trained
    # few networks settle the threshold here, and small ones all look alike
    assert card.in_distribution["untrained networks"] > 0.15 + card.in_distribution["INRs of test images"]


def test_a_written_classifier_answers_as_the_trained_one(trained: Any, zoo: Path, tmp_path: Path) -> None:
    card, tensors = trained
    write_inr_predictor(tmp_path / "p", card, tensors)
    part = load_inrs([zoo]).parts[0]
    one = assemble_inr(card, tensors).classify(part.graph, part.tensors)
    other = load_inr_predictor(str(tmp_path / "p")).classify(part.graph, part.tensors)
    assert one == other
    alone = load_inr_predictor(str(tmp_path / "p")).classify(part.graph, {n: t[:1] for n, t in part.tensors.items()})
    assert alone[0].probabilities == pytest.approx(one[0].probabilities, abs=1e-9)  # company does not show
    assert sum(one[0].probabilities) == pytest.approx(1)


def test_images_of_either_order_of_coordinates_are_known(trained: Any, zoo: Path) -> None:
    card, tensors = trained
    predictor = assemble_inr(card, tensors)
    data = load_inrs([zoo])
    for order in ("row-column", "column-row"):
        right = 0
        for part in data.parts:
            tested = np.flatnonzero(data.split[part.rows] == "test")
            stacked = {name: array[tested] for name, array in part.tensors.items()}
            answers = predictor.classify(part.graph, stacked, Coordinates(order=order))
            labels = data.label[part.rows[tested]]
            right += sum(a.number == label for a, label in zip(answers, labels, strict=True))
        assert right > 0.6 * 60


def test_networks_are_read_where_their_zoo_says_that_images_lie(zoo: Path, tmp_path: Path) -> None:
    """The same networks with the two coordinates exchanged, in a zoo that says so, are the same to a learner."""
    shutil.copytree(zoo, tmp_path / "zoo")
    for table in (tmp_path / "zoo" / "shards").glob("*.csv"):
        header, *lines = table.read_text().splitlines()
        half = len(lines) // 2  # the others stay as they are
        told = [f"{line},{'column-row' if number < half else ''}" for number, line in enumerate(lines)]
        table.write_text("\n".join([f"{header},order", *told]) + "\n")
        tensors = load_file(table.with_suffix(".safetensors"))
        with safe_open(table.with_suffix(".safetensors"), "np") as opened:
            metadata = opened.metadata()
        tensors["layers.0.weight"][:half] = tensors["layers.0.weight"][:half, :, ::-1].copy()
        save_file(tensors, table.with_suffix(".safetensors"), metadata)
    encoder = INR_KINDS["phasor"]({"channels": 1, "layers": 2, "widths": None}, {})
    given, exchanged = load_inrs([zoo]), load_inrs([tmp_path / "zoo"])
    assert len({where.order for where in exchanged.coordinates}) == 2
    assert torch.equal(encode_inrs(given, encoder).weights[0], encode_inrs(exchanged, encoder).weights[0])
    other = encode_inrs(given, encoder, exchanged=True)
    assert torch.equal(other.weights[0], encode_inrs(given, encoder).weights[0].flip(2))


def test_rows_of_test_images_are_not_trained_on(zoo: Path) -> None:
    data = load_inrs([zoo])
    counts = {split: int((data.split == split).sum()) for split in ("train", "validation", "test")}
    assert counts["test"] == 60
    assert counts["train"] + counts["validation"] == 320
    kept = data.index[data.split == "validation"]
    assert in_validation(kept).all()
    assert not in_validation(data.index[data.split == "train"]).any()


def test_too_few_labels_are_refused(zoo: Path) -> None:
    with pytest.raises(WrongUsage, match="2 labels for 3 classes"):
        train_inr_classifier([zoo], InrClassifierConfig("phasor", labels=("a", "b")), "x", [])


def test_weights_and_pictures_are_moved_alike() -> None:
    """The same random numbers move a picture, and the network that shows it."""
    from nfn_cli.networks.inr import render

    network = SineNetwork((2, 6, 6, 1), (6.0, 6.0))  # smooth, so that sampling between pixels is exact enough
    flat = network.initial(np.array(["narrow"] * 4), np.random.default_rng(0)).astype(np.float64)
    tensors = network.tensors(flat)
    stacked = {name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}
    usual = Coordinates(centred=True)
    picture = render(network.graph(), stacked, 96, 96, usual).permute(0, 3, 1, 2).float()
    sines = INR_KINDS["phasor"]({"channels": 1, "layers": 2, "widths": None}, {}).encode(
        network.graph(), tensors, usual
    )
    augment = InrAugment(3, exchanged=0.5, mirrored=0.5, noise=0.0, kept=0.0)
    target = torch.tensor([0, 1, 2, 3])
    torch.manual_seed(5)
    moved, one = augment(sines.to(torch.float32), target)
    torch.manual_seed(5)
    sampled, other = augment(Pixels(picture), target)
    assert torch.equal(one, other)
    assert set((one - target).tolist()) == {0, 3}  # some are exchanged, never what shows something else
    first, bias = moved.weights[0].double(), moved.biases[0].double()
    grid = torch.from_numpy(usual.grid(96, 96))
    h = torch.sin(torch.einsum("bpq,gq->bgp", first, grid) + bias[:, None])
    h = torch.sin(torch.einsum("bpq,bgq->bgp", moved.weights[1].double(), h) + moved.biases[1].double()[:, None])
    shown = torch.einsum("bpq,bgq->bgp", moved.weights[2].double(), h).reshape(4, 1, 96, 96).float()
    inner = (slice(None), slice(None), slice(20, 76), slice(20, 76))
    a, b = (each[inner] - each[inner].mean((2, 3), keepdim=True) for each in (shown, sampled.values))
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    assert float(cosine.min()) > 0.99


def test_temperature_and_calibration_error() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4000, 5, dtype=torch.float64) * 2
    label = torch.distributions.Categorical(logits=logits[:, :4]).sample()
    assert fitted_temperature(logits, label, 4) == pytest.approx(1, abs=0.12)
    assert fitted_temperature(logits * 3, label, 4) == pytest.approx(3, abs=0.4)
    probabilities, _ = read_outputs(logits, 4, 1.0)
    sure, found = probabilities.max(1)
    right = (found == label).double()
    assert calibration_error(sure, right) < 0.03
    assert calibration_error(sure**4, right) > 0.1


def test_untrained_networks_have_the_shapes_and_not_the_weights() -> None:
    network = SineNetwork((2, 6, 6, 1), (30.0, 30.0))
    tensors = network.tensors(network.initial(np.array(["siren"] * 3), np.random.default_rng(0)))
    fresh = untrained_sines(1)(network.graph(), tensors)
    assert {name: array.shape for name, array in fresh.items()} == {n: a.shape for n, a in tensors.items()}
    assert not any(np.array_equal(fresh[name], tensors[name]) for name in tensors)
    assert np.abs(fresh["layers.1.weight"]).max() <= np.sqrt(6 / 6) / 30 + 1e-9
